"""The JSON of answers, in the shapes of OpenAI's chat and completion APIs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from fairlead.gateway.asked import Asked

quote = msgspec.json.Encoder().encode
"""A value as JSON bytes; strings come out quoted and escaped."""
DONE = b"data: [DONE]\n\n"
LEAST_LOGPROB = -9999.0
"""JSON has no minus infinity."""


def call_id(asked: Asked) -> str:
    """The id that a client sees, from the first of its requests."""
    prefix = "chatcmpl-" if asked.chat else "cmpl-"
    return prefix + asked.requests[0].id.partition(".")[0]


class ChunkText:
    """Server-sent events of one call, rendered once up to the tokens' text."""

    def __init__(self, asked: Asked, id_: str, created: int) -> None:
        kind = "chat.completion.chunk" if asked.chat else "text_completion"
        shared = {"id": id_, "object": kind, "created": created, "model": asked.model}
        self._opening = b"data: " + quote(shared)[:-1] + b',"choices":['
        self._closing = (b'],"usage":null' if asked.include_usage else b"]") + b"}\n\n"
        self._chat = asked.chat

    def around_text(self, index: int) -> tuple[bytes, bytes]:
        """What goes before and after the quoted text of a plain chunk of choice `index`."""
        field = b'"delta":{"content":' if self._chat else b'"text":'
        before = self._opening + b'{"index":%d,' % index + field
        after = (b"}" if self._chat else b"") + b',"logprobs":null,"finish_reason":null}'
        return before, after + self._closing

    def choice(
        self,
        index: int,
        text: str | None,
        *,
        role: bool = False,
        logprobs: object = None,
        finish: str | None = None,
        position: tuple[int, int] | None = None,
    ) -> bytes:
        """A chunk with anything in it; `text` None leaves a chat delta empty."""
        if not self._chat:
            return self._chunk(index, {"text": text or ""}, logprobs, finish, position)
        delta = ({"role": "assistant"} if role else {}) | (
            {} if text is None else {"content": text}
        )
        return self._chunk(index, {"delta": delta}, logprobs, finish, position)

    def delta(
        self,
        index: int,
        delta: dict[str, Any],
        logprobs: object = None,
        position: tuple[int, int] | None = None,
    ) -> bytes:
        """A chunk of a chat with a delta of any kind."""
        return self._chunk(index, {"delta": delta}, logprobs, None, position)

    def _chunk(
        self,
        index: int,
        shown: dict[str, Any],
        logprobs: object,
        finish: str | None,
        position: tuple[int, int] | None,
    ) -> bytes:
        own = quote({"index": index, **shown, "logprobs": logprobs, "finish_reason": finish})
        if position is None:
            return self._opening + own + self._closing
        note = b'],"fairlead":{"position":%d,"n":%d}' % position
        return self._opening + own + note + self._closing[1:]

    def usage(self, usage: dict[str, Any]) -> bytes:
        """The chunk after the last choice has ended."""
        return self._opening + b'],"usage":' + quote(usage) + b"}\n\n"


def usage(prompt_tokens: int, completion_tokens: int, cached_tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
    }


def whole(
    asked: Asked, id_: str, created: int, choices: list[dict[str, Any]], used: dict[str, Any]
) -> bytes:
    """The answer to a call that does not stream."""
    kind = "chat.completion" if asked.chat else "text_completion"
    return quote(
        {
            "id": id_,
            "object": kind,
            "created": created,
            "model": asked.model,
            "choices": choices,
            "usage": used,
        }
    )


def whole_choice(
    chat: bool,
    index: int,
    text: str,
    logprobs: object,
    finish: str | None,
    tool_calls: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    body: dict[str, Any] = {"index": index}
    if chat:
        body["message"] = {"role": "assistant", "content": text}
        if tool_calls:
            body["message"] |= {"content": text or None, "tool_calls": tool_calls}
    else:
        body["text"] = text
    body["logprobs"] = logprobs
    body["finish_reason"] = finish
    return body


class Logprobs:
    """Gathers the workers' log-probabilities of one choice and shows them in the API's shape."""

    def __init__(self, chat: bool) -> None:
        self._chat = chat
        self._offset = 0
        """Characters of all tokens before, for the completion API's `text_offset`."""

    def show(self, entries: Sequence[Any]) -> dict[str, Any]:
        """Entries as in `wire.Row.logprobs`; the offset goes on where the last call ended."""
        return self._as_chat(entries) if self._chat else self._as_completion(entries)

    @staticmethod
    def _as_chat(entries: Sequence[Any]) -> dict[str, Any]:
        content = [
            _token(text, logprob) | {"top_logprobs": [_token(t, p) for t, p in top]}
            for logprob, text, top in entries
        ]
        return {"content": content, "refusal": None}

    def _as_completion(self, entries: Sequence[Any]) -> dict[str, Any]:
        offsets = []
        for _, text, _ in entries:
            offsets.append(self._offset)
            self._offset += len(text)
        return {
            "tokens": [text for _, text, _ in entries],
            "token_logprobs": [_finite(logprob) for logprob, _, _ in entries],
            "top_logprobs": [
                {t: _finite(p) for t, p in top} | {text: _finite(logprob)}
                for logprob, text, top in entries
            ],
            "text_offset": offsets,
        }


def _token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": _finite(logprob), "bytes": list(text.encode())}


def _finite(logprob: float) -> float:
    return max(logprob, LEAST_LOGPROB)
