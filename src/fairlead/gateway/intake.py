"""From the body of an HTTP call to the requests that the fleet is asked to serve."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import msgspec

from fairlead.gateway import prompts
from fairlead.gateway.asked import Asked, Calls
from fairlead.gateway.checks.chain import NO_CHECKS, Checks
from fairlead.gateway.conversation import (
    Messages,
    for_template,
    holds_calls,
    passed_on,
    plain_messages,
)
from fairlead.gateway.sampling import samplings
from fairlead.gateway.schemas import (
    Body,
    ChatBody,
    CompletionBody,
    Hints,
    parse_chat,
    parse_completion,
)
from fairlead.gateway.served import ServedModel
from fairlead.gateway.tenants.caller import Caller
from fairlead.gateway.tools.constraint import check_servable, format_for
from fairlead.gateway.tools.offer import Offer, read_offer
from fairlead.memory.prefix import chain_hashes
from fairlead.model import (
    BlockHash,
    Objective,
    ProgramId,
    Request,
    RequestError,
    RequestId,
    Sampling,
    TenantId,
)
from fairlead.text.call_format import CallFormat

LONG_PROMPT_CHARS = 4096
"""Longer prompts are encoded in a thread: about 4 ms each 16 kB, in which no stream would move."""
MAX_REQUESTS_PER_CALL = 256
"""Prompts times choices."""
_NO_HINTS = Hints()


class _Prompt(msgspec.Struct, frozen=True):
    token_ids: Sequence[int]
    block_hashes: tuple[BlockHash, ...]


class _Question(msgspec.Struct, frozen=True):
    """A call whose prompts are tokens now."""

    body: Body
    caller: Caller
    arrival_s: float
    model: ServedModel
    prompts: Sequence[_Prompt]
    offer: Offer | None = None
    chat: bytes = b""
    chat_only: bool = False


class Intake:
    """Checks calls against the models and objectives that are served, and names their requests."""

    def __init__(
        self,
        models: Mapping[str, ServedModel],
        objectives: Mapping[str, Objective],
        default_class: str,
        clock: Callable[[], float],
        rng: Random,
        checks: Checks = NO_CHECKS,
    ) -> None:
        self._models = models
        self._objectives = objectives
        self._default_class = default_class
        self._clock = clock
        self._checks = checks
        self._rng = rng
        """Draws seeds for clients that gave none."""
        self._run = f"{rng.getrandbits(16):04x}"
        """Part of every id: a worker may still run requests of the gateway that was here before."""
        self._n_calls = 0

    async def chat(self, data: bytes, caller: Caller, header_hints: Hints | None) -> Asked:
        """Raises `RequestError` where the call cannot be served as it is."""
        return await self.converse(parse_chat(data), caller, header_hints)

    async def converse(
        self, body: ChatBody, caller: Caller, header_hints: Hints | None = None
    ) -> Asked:
        """The same for a call that has been read, or translated from another API."""
        question = await self._talk(body, caller, self._checks)
        logprobs = body.top_logprobs or 0 if body.logprobs else None
        if body.top_logprobs is not None and not body.logprobs:
            raise RequestError("top_logprobs needs logprobs: true", param="top_logprobs")
        if body.max_completion_tokens is not None:
            body.max_tokens = body.max_completion_tokens
        return self._asked(question, _merge(header_hints, body.fairlead), logprobs)

    async def count(self, body: ChatBody, caller: Caller) -> int:
        """Tokens of the prompt that a chat makes. Raises `RequestError` where it makes none."""
        return len((await self._talk(body, caller, NO_CHECKS)).prompts[0].token_ids)

    async def _talk(self, body: ChatBody, caller: Caller, checks: Checks) -> _Question:
        arrival_s = self._clock()
        model = self._model(body.model)
        caller.check_model(model.name)
        messages = plain_messages(body.messages, model.name)
        messages = await checks.look(caller.name, model.name, messages)
        offer = read_offer(body.tools, body.tool_choice, body.parallel_tool_calls)
        chat_only = check_servable(model, offer, called=holds_calls(messages))
        chat = passed_on(body, messages) if model.passes_chats else b""
        salt = caller.salt
        n_chars = _n_chars(messages) + (0 if offer is None else offer.n_bytes)

        def encode() -> _Prompt:
            if chat_only:
                return _prompt(model, model.tokenizer.encode(chat.decode()), salt, "messages")
            tools = None if offer is None else offer.as_json()
            ids = model.tokenizer.encode_chat(for_template(messages), tools=tools)
            return _prompt(model, ids, salt, "messages")

        prompt = await asyncio.to_thread(encode) if n_chars > LONG_PROMPT_CHARS else encode()
        return _Question(body, caller, arrival_s, model, [prompt], offer, chat, chat_only)

    async def completion(self, data: bytes, caller: Caller, header_hints: Hints | None) -> Asked:
        """Raises `RequestError` where the call cannot be served as it is."""
        return await self._complete(parse_completion(data), caller, header_hints, "prompt")

    async def embedding(
        self, body: CompletionBody, caller: Caller, header_hints: Hints | None
    ) -> Asked:
        """The same for prompts whose vectors are wanted."""
        asked = await self._complete(body, caller, header_hints, "input")
        requests = [msgspec.structs.replace(one, embeds=True) for one in asked.requests]
        return msgspec.structs.replace(asked, requests=requests)

    async def _complete(
        self, body: CompletionBody, caller: Caller, header_hints: Hints | None, param: str
    ) -> Asked:
        arrival_s = self._clock()
        model = self._model(body.model)
        caller.check_model(model.name)
        encoded = await self._encode(body.prompt, model, param, caller)
        question = _Question(body, caller, arrival_s, model, encoded)
        return self._asked(question, _merge(header_hints, body.fairlead), body.logprobs)

    async def _encode(
        self, given: str | list[Any], model: ServedModel, param: str, caller: Caller
    ) -> list[_Prompt]:
        """The prompts that were given, after all checks. Raises `RequestError`."""
        several = prompts.several(given, param)
        if self._checks:
            several = await prompts.checked(several, model, param, caller.name, self._checks)

        def encode(one: prompts.OnePrompt) -> _Prompt:
            return _prompt(model, prompts.encode(one, model, param), caller.salt, param)

        return [
            await asyncio.to_thread(encode, one) if len(one) > LONG_PROMPT_CHARS else encode(one)
            for one in several
        ]

    def _asked(self, question: _Question, hints: Hints, logprobs: int | None) -> Asked:
        body, offer = question.body, question.offer
        n = body.n or 1
        _check_number(n, len(question.prompts))
        question.caller.check_logprobs(logprobs, "logprobs")
        objective = self._objective(body.service_tier, hints, question.caller)
        samplings = self._samplings(question, n, logprobs)
        format = None if offer is None else format_for(question.model)
        return Asked(
            requests=self._requests(question, hints, objective, samplings, format),
            chat=isinstance(body, ChatBody),
            model=question.model.name,
            n=n,
            stream=bool(body.stream),
            include_usage=body.stream_options is not None and body.stream_options.include_usage,
            logprobs=logprobs is not None,
            positions=bool(hints.positions),
            calls=None
            if offer is None or format is None
            else Calls(format, offer.names, offer.only_one),
        )

    def _samplings(self, question: _Question, n: int, logprobs: int | None) -> list[Sampling]:
        """One for each choice; the seed is drawn where the client gave none."""
        body = question.body
        seed = self._rng.getrandbits(63) if body.seed is None else body.seed & (2**63 - 1)
        return samplings(body, question.model, logprobs, question.offer, seed, n)

    def _requests(
        self,
        question: _Question,
        hints: Hints,
        objective: Objective,
        samplings: Sequence[Sampling],
        format: CallFormat | None,
    ) -> list[Request]:
        body, caller, model = question.body, question.caller, question.model
        n = len(samplings)
        alone = n * len(question.prompts) == 1
        self._n_calls += 1
        call = f"r{self._run}{self._n_calls}"
        user = body.user or body.safety_identifier or ""
        return [
            Request(
                id=RequestId(f"{call}.{p * n + k}"),
                arrival_s=question.arrival_s,
                prompt_tokens=len(prompt.token_ids),
                max_tokens=_max_tokens(body, model, len(prompt.token_ids), caller),
                objective=objective,
                model=model.name,
                tenant=TenantId(caller.name),
                user=user,
                priority=caller.priority(body.priority),
                program=ProgramId(hints.program) if hints.program else None,
                expected_output_tokens=hints.expected_output_tokens,
                sampling=sampling,
                token_ids=prompt.token_ids,
                block_hashes=prompt.block_hashes,
                cache_salt=caller.salt,
                share_weight=caller.share_weight,
                chat=question.chat,
                chat_only=question.chat_only,
                call="" if alone else call,
                call_format="" if format is None else format.value,
            )
            for p, prompt in enumerate(question.prompts)
            for k, sampling in enumerate(samplings)
        ]

    def _model(self, name: str) -> ServedModel:
        model = self._models.get(name)
        if model is None:
            raise RequestError(
                f"the model {name!r} does not exist; served here: {', '.join(self._models)}",
                status=404,
                code="model_not_found",
                param="model",
            )
        return model

    def _objective(self, tier: str | None, hints: Hints, caller: Caller) -> Objective:
        name = caller.tier(tier, self._default_class)
        known = self._objectives.get(name)
        if known is None:
            raise RequestError(
                f"unknown service_tier {name!r}; known are auto, default,"
                f" {', '.join(self._objectives)}",
                param="service_tier",
                code="invalid_value",
            )
        if hints is _NO_HINTS or (hints.ttft_s, hints.tpot_s, hints.deadline_s) == (None,) * 3:
            return known
        caller.check_own_times()
        return Objective(
            name=known.name,
            ttft_s=known.ttft_s if hints.ttft_s is None else hints.ttft_s,
            tpot_s=known.tpot_s if hints.tpot_s is None else hints.tpot_s,
            deadline_s=known.deadline_s if hints.deadline_s is None else hints.deadline_s,
        )


def _check_number(n: int, n_prompts: int) -> None:
    if n * n_prompts > MAX_REQUESTS_PER_CALL:
        raise RequestError(
            f"{n_prompts} prompts with {n} choices each are more than"
            f" {MAX_REQUESTS_PER_CALL} answers; split the call",
            param="n",
        )


def _prompt(model: ServedModel, ids: Sequence[int], salt: bytes, param: str) -> _Prompt:
    n = len(ids)
    if n == 0:
        raise RequestError("the prompt must not be empty; say something", param=param)
    if n >= model.max_context:
        raise RequestError(
            f"the prompt has {n} tokens, and {model.name} has a context of {model.max_context}"
            f" tokens for prompt and answer together; shorten the prompt",
            code="context_length_exceeded",
            param=param,
        )
    return _Prompt(ids, chain_hashes(ids, model.block_tokens, salt))


def _max_tokens(body: Body, model: ServedModel, prompt_tokens: int, caller: Caller) -> int:
    room = model.max_context - prompt_tokens
    if body.max_tokens is not None and body.max_tokens > room:
        raise RequestError(
            f"the prompt's {prompt_tokens} tokens and max_tokens={body.max_tokens} are"
            f" {prompt_tokens + body.max_tokens} together, over the context of"
            f" {model.max_context} tokens; ask for at most {room}",
            code="context_length_exceeded",
            param="max_tokens",
        )
    return caller.max_tokens(body.max_tokens, room)


def _n_chars(messages: Messages) -> int:
    return sum(len(message["content"]) for message in messages)


def _merge(headers: Hints | None, body: Hints | None) -> Hints:
    """What the body says wins over the headers."""
    if headers is None:
        return body or _NO_HINTS
    if body is None:
        return headers
    said = {name: getattr(body, name) for name in body.__struct_fields__}
    heard = {name: getattr(headers, name) for name in headers.__struct_fields__}
    return Hints(**{name: heard[name] if said[name] is None else said[name] for name in said})
