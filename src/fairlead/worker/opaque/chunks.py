"""From the bytes of a server's event stream to its chunks. Opens nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from fairlead.worker.opaque.errors import ServerError, What, of_error

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""No event of an answer is near this; a server that sends one endless line is not one."""


class FunctionDelta(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class CallDelta(msgspec.Struct):
    """A part of a call of a tool."""

    index: int = 0
    function: FunctionDelta | None = None


class Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[CallDelta] | None = None


class Choice(msgspec.Struct, gc=False):
    text: str | None = None
    """Of a completion."""
    delta: Delta | None = None
    """Of a chat."""
    token_ids: list[int] | None = None
    finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None


class _Cached(msgspec.Struct):
    cached_tokens: int | None = None


class Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    prompt_tokens_details: _Cached | None = None

    @property
    def cached_tokens(self) -> int:
        details = self.prompt_tokens_details
        return (details.cached_tokens or 0) if details is not None else 0


class Chunk(msgspec.Struct, gc=False):
    """One event; an answer without streaming has the same shape."""

    choices: list[Choice] = []
    usage: Usage | None = None
    error: Any = None


DONE = Chunk()
"""The server has said that nothing follows."""
decoder = msgspec.json.Decoder(Chunk)


class EventReader:
    """Cuts server-sent events into chunks."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Chunk]:
        """Yields every chunk that is complete now, `DONE` at the end. Raises `ServerError` on an
        error that the server sends in the stream, and on what is no chunk."""
        lines = (self._rest + data if self._rest else data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MAX_EVENT_BYTES:
            raise ServerError(What.ILL, f"it sent an event of over {MAX_EVENT_BYTES} bytes")
        for line in lines:
            if line.startswith(b"data:"):
                yield _chunk(line[5:].strip())


def _chunk(payload: bytes) -> Chunk:
    if payload == b"[DONE]":
        return DONE
    try:
        chunk = decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ServerError(
            What.ILL, f"it sent an event that is no chunk of an answer: {error}"
        ) from error
    if chunk.error is not None:
        raise of_error(chunk.error)
    return chunk
