"""Bodies of requests as typed structures, and the messages for those that do not fit.

Fields that are only accepted (OpenAI's `store`, `metadata`, ...) are not listed and are ignored.
Fields that would change the answer, and that nothing here can do, are listed in `_UNSUPPORTED` and
refused: an ignored constraint is worse than an error.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any, NoReturn, TypeVar

import msgspec
from msgspec import Meta

from fairlead.gateway.tools.fields import Tool, ToolCall
from fairlead.model import RequestError

Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Seconds = Annotated[float, Meta(gt=0, le=1e9)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Name = Annotated[str, Meta(max_length=512)]


class Hints(msgspec.Struct, forbid_unknown_fields=True):
    """The `fairlead` object of a request: its own objective, and what its client knows."""

    ttft_s: Seconds | None = None
    tpot_s: Seconds | None = None
    deadline_s: Seconds | None = None
    program: Name | None = None
    program_deadline_s: Seconds | None = None
    stage: Name | None = None
    expected_output_tokens: Count | None = None
    next_gap_s: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    last: bool | None = None
    positions: bool | None = None
    """Every streamed chunk tells the position of its first output token and how many it holds."""


class StreamOptions(msgspec.Struct):
    include_usage: bool = False


class Body(msgspec.Struct, kw_only=True):
    """What chat and plain completions have in common."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    max_tokens: Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    seed: Int64 | None = None
    stop: str | Annotated[list[str], Meta(max_length=16)] | None = None
    stop_token_ids: Annotated[list[int], Meta(max_length=128)] | None = None
    ignore_eos: bool | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    priority: Int32 | None = None
    user: Name | None = None
    safety_identifier: Name | None = None
    prompt_cache_key: Name | None = None
    service_tier: str | None = None
    fairlead: Hints | None = None
    response_format: dict[str, Any] | None = None
    """`text`, `json_object` or `json_schema`: see `gateway/output_schema.py`."""
    best_of: Any = None
    echo: Any = None
    suffix: Any = None
    logit_bias: Any = None
    use_beam_search: Any = None
    prompt_logprobs: Any = None
    allowed_token_ids: Any = None
    bad_words: Any = None
    structured_outputs: Any = None
    guided_json: Any = None
    guided_regex: Any = None
    guided_choice: Any = None
    guided_grammar: Any = None


class Part(msgspec.Struct):
    """A piece of a message's content."""

    type: str
    text: str | None = None


class ChatMessage(msgspec.Struct):
    role: str
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


class ChatBody(Body, kw_only=True):
    messages: list[ChatMessage]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: list[Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    """`none`, `auto`, `required`, or a function's name: see `gateway/tools/offer.py`."""
    parallel_tool_calls: bool | None = None
    functions: Any = None
    modalities: list[str] | None = None
    audio: Any = None


class CompletionBody(Body, kw_only=True):
    prompt: str | list[Any]
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None


_UNSUPPORTED = {
    "best_of": "ask for `n` choices and pick one yourself",
    "echo": "the prompt is not repeated; put it in front of the answer yourself",
    "suffix": "text is only continued at its end",
    "logit_bias": "leave it out",
    "use_beam_search": "sample with `n` choices instead",
    "prompt_logprobs": "log-probabilities exist for output tokens only, see `logprobs`",
    "allowed_token_ids": "leave it out",
    "bad_words": "leave it out",
    "structured_outputs": "output is constrained by JSON schemas only, see `response_format`",
    "guided_json": "send the schema as `response_format`",
    "guided_regex": "output is constrained by JSON schemas only, see `response_format`",
    "guided_choice": "send an enum as the schema of `response_format`",
    "guided_grammar": "output is constrained by JSON schemas only, see `response_format`",
    "functions": "send them as `tools`",
    "audio": "answers are text",
}

B = TypeVar("B")
_chat = msgspec.json.Decoder(ChatBody)
_completion = msgspec.json.Decoder(CompletionBody)


def parse_chat(data: bytes) -> ChatBody:
    """Raises `RequestError` with OpenAI's fields on anything that is not a chat request."""
    body = parse(_chat, data)
    _refuse_unsupported(body)
    if body.modalities is not None and body.modalities != ["text"]:
        unsupported("modalities", "answers are text")
    return body


def parse_completion(data: bytes) -> CompletionBody:
    """Raises `RequestError` with OpenAI's fields on anything that is not a completion request."""
    body = parse(_completion, data)
    _refuse_unsupported(body)
    return body


def parse_hint_headers(headers: Mapping[str, str]) -> Hints:
    """Hints from `X-Fairlead-*` headers; the keys are the rest of the names, in lower case."""
    fields = {name.replace("-", "_"): value for name, value in headers.items()}
    try:
        return msgspec.convert(fields, Hints, strict=False)
    except msgspec.ValidationError as error:
        raise _explain(error, prefix="X-Fairlead-*: ") from error


def parse(decoder: msgspec.json.Decoder[B], data: bytes) -> B:
    """Raises `RequestError` that names the field, on anything that does not fit."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise _explain(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError(
            f"the body is not valid JSON: {error}; send one JSON object in UTF-8",
            code="invalid_json",
        ) from error
    except RecursionError as error:
        raise RequestError("the body's JSON is nested too deeply", code="invalid_json") from error


_PLACE = re.compile(r" - at `\$\.?(.*?)`$")
_MISSING = re.compile(r"missing required field `(.*?)`")
_UNKNOWN = re.compile(r"unknown field `(.*?)`")


def _explain(error: msgspec.ValidationError, prefix: str = "") -> RequestError:
    """The decoder's complaint with the parameter's name in front, and the nearest known one."""
    text = str(error)
    place = _PLACE.search(text)
    where = place[1] if place else ""
    what = _PLACE.sub("", text)
    if missing := _MISSING.search(what):
        where = f"{where}.{missing[1]}" if where else missing[1]
        return RequestError(f"{prefix}missing parameter: {where}", param=where, code="missing")
    if unknown := _UNKNOWN.search(what):
        known = difflib.get_close_matches(unknown[1], Hints.__struct_fields__, n=1, cutoff=0.0)
        what = f"unknown field {unknown[1]!r}; did you mean {known[0]!r}?"
        where = f"{where}.{unknown[1]}" if where else unknown[1]
    named = f"{where}: " if where else ""
    return RequestError(f"{prefix}{named}{what}", param=where or None, code="invalid_value")


def _refuse_unsupported(body: Body) -> None:
    for name in _REFUSED[type(body)]:
        value = getattr(body, name)
        if not value or (name == "best_of" and value == (body.n or 1)):
            continue
        unsupported(name, _UNSUPPORTED[name])


_REFUSED: dict[type[Body], tuple[str, ...]] = {
    kind: tuple(name for name in kind.__struct_fields__ if name in _UNSUPPORTED)
    for kind in (ChatBody, CompletionBody)
}


def unsupported(name: str, advice: str) -> NoReturn:
    """Refuses a field that would change the answer in a way that nothing here can."""
    raise RequestError(f"{name} is not supported: {advice}", param=name, code="unsupported")
