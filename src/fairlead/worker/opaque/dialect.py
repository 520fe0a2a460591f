"""How each kind of server wants to be asked: the path, the body, and the names of its extras.

Every server gets what OpenAI's API has. What goes beyond it is sent where a request asks for it, by
the name that the server has for it: one that does not know it refuses, which its client is told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import msgspec

from fairlead.model import Request
from fairlead.text.call_format import MARKS


class Kind(Enum):
    """The software of a server."""

    VLLM = "vllm"
    SGLANG = "sglang"
    LLAMA_CPP = "llama.cpp"
    OTHER = "other"


class Prompts(Enum):
    """What a prompt is sent as."""

    TOKENS = "tokens"
    """Token ids at /v1/completions: exact."""
    TEXT = "text"
    """Text at /v1/completions: its tokens are the server's own."""
    CHAT = "chat"
    """Messages at /v1/chat/completions; an answer that has begun cannot be gone on with."""


class Texts(Protocol):
    """What is needed of a tokenizer."""

    def raw_text(self, token_ids: Sequence[int]) -> str:
        """Their text, special tokens by their names."""
        ...

    def plain_text(self, token_ids: Sequence[int]) -> str:
        """Their text without special tokens."""
        ...


_EXTRAS: Mapping[Kind, Mapping[str, str]] = {
    Kind.VLLM: {},
    Kind.SGLANG: {},
    Kind.LLAMA_CPP: {"repetition_penalty": "repeat_penalty"},
    Kind.OTHER: {},
}
"""Where a name differs from vLLM's, which the others have taken over for the most part."""


@dataclass(slots=True)
class Dialect:
    """What is known of a server's manners."""

    kind: Kind
    prompts: Prompts
    served_as: str
    """The model's name there."""
    max_context: int
    returns_ids: bool = False
    """Its chunks carry token ids."""
    limit_key: str = "max_tokens"
    """Some clouds want `max_completion_tokens` in chats."""
    embeds_only: bool = False
    """It gives vectors, and no tokens."""

    @property
    def path(self) -> str:
        return "/v1/chat/completions" if self.prompts is Prompts.CHAT else "/v1/completions"

    @property
    def goes_on(self) -> bool:
        """Whether it can go on with an answer that was begun elsewhere."""
        return self.prompts is not Prompts.CHAT

    def body(self, request: Request, produced: Sequence[int], texts: Texts) -> dict[str, Any]:
        """The body that asks for what is missing of an answer whose first tokens are `produced`."""
        body: dict[str, Any] = {
            "model": self.served_as,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self._prompt(request, produced, texts),
            **self._sampling(request, len(produced)),
            **self._logprobs(request),
        }
        left = request.max_tokens - len(produced)
        # A chat without a limit of its own asks for all the room there is, which a cloud may call
        # too much.
        if self.prompts is not Prompts.CHAT or left < self.max_context - request.prompt_tokens:
            body[self.limit_key] = left
        if self.kind is Kind.VLLM:
            body |= self._of_vllm(request)
        return body

    def probe(self, prompt: Mapping[str, Any]) -> dict[str, Any]:
        """A body that asks for one token, to see whether any comes."""
        own = {"return_token_ids": True} if self.kind is Kind.VLLM else {}
        limit = {self.limit_key: 1, "temperature": 0.0}
        return {"model": self.served_as, "stream": False, **prompt, **limit, **own}

    def _prompt(self, request: Request, produced: Sequence[int], texts: Texts) -> dict[str, Any]:
        if self.prompts is Prompts.CHAT:
            return _chat.decode(request.chat)
        token_ids = [*request.token_ids, *produced]
        if self.prompts is Prompts.TOKENS:
            return {"prompt": token_ids}
        return {"prompt": texts.raw_text(token_ids)}

    def _sampling(self, request: Request, n_produced: int) -> dict[str, Any]:
        sampling, names = request.sampling, _EXTRAS[self.kind]
        body: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": seed_from(sampling.seed, n_produced),
        }
        extras: dict[str, Any] = {
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "stop_token_ids": list(sampling.stop_token_ids),
            "ignore_eos": sampling.ignore_eos,
            "min_tokens": max(sampling.min_tokens - n_produced, 0),
        }
        if sampling.repetition_penalty != 1.0:
            extras["repetition_penalty"] = sampling.repetition_penalty
        body |= {names.get(name, name): value for name, value in extras.items() if value}
        # In a chat calls are no text, and have no marks.
        unmarked = self.prompts is Prompts.CHAT
        stop = [text for text in sampling.stop if not (unmarked and text in MARKS)]
        if stop and not self.returns_ids:
            # Of token ids we make the text, and find the stop strings, ourselves.
            body["stop"] = stop
        return body

    def _logprobs(self, request: Request) -> dict[str, Any]:
        n = request.sampling.logprobs
        if n is None:
            return {}
        if self.prompts is Prompts.CHAT:
            return {"logprobs": True, "top_logprobs": n}
        # Token ids for text: what stands for part of a character would be lost otherwise.
        own = {"return_tokens_as_token_ids": True} if self.kind is Kind.VLLM else {}
        return {"logprobs": n, **own}

    def _of_vllm(self, request: Request) -> dict[str, Any]:
        own: dict[str, Any] = {}
        if self.prompts is Prompts.TOKENS:
            own["return_token_ids"] = True
        if request.cache_salt:
            # Tenants' prefixes are apart there as they are in our own names for them.
            own["cache_salt"] = salt_text(request.cache_salt)
        return own


_chat = msgspec.json.Decoder(dict[str, msgspec.Raw])


def salt_text(salt: bytes) -> str:
    """The salt as a server gets it, which learns no tenant's name from it."""
    return hashlib.blake2b(salt, digest_size=16, person=b"fairlead salt").hexdigest()


def seed_from(seed: int, n_produced: int) -> int:
    """The seed for an answer's rest. The generators of other engines begin with every request:
    from the same seed they would draw the beginning's draws again."""
    if n_produced == 0:
        return seed % 2**31
    digest = hashlib.blake2b(f"{seed}/{n_produced}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") % 2**31
