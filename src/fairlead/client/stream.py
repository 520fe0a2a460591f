"""Reads one streamed answer as it comes: when tokens arrived, how many, and whether each came
exactly once and in order. Bytes and times in, figures out; it opens no connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from fairlead.client.errors import message_of


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Place(msgspec.Struct):
    """What a Fairlead gateway adds to a chunk on request."""

    position: int | None = None
    n: int = 0
    instance: str = ""
    resumed: bool = False


class _CachedTokens(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _CachedTokens | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    fairlead: _Place | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Chunk)
BROKE_OFF = "the stream broke off before its end"
MAX_EVENT_BYTES = 16 * 1024 * 1024
"""No event of a completion is near this; a server that sends one endless line is not one."""


class PositionCheck:
    """Each output token exactly once, in order: counts what comes twice, is left out, or carries
    no position."""

    def __init__(self) -> None:
        self.next = 0
        self.repeated = 0
        self.skipped = 0
        self.unmarked = 0
        self.first_fault = ""

    @property
    def ok(self) -> bool:
        return not (self.repeated or self.skipped or self.unmarked)

    def chunk(self, place: _Place | None) -> None:
        """A chunk that holds output."""
        if place is None or place.position is None:
            self.unmarked += 1
            self._fault("a chunk without a position")
            return
        if place.position < self.next:
            self.repeated += min(self.next - place.position, max(place.n, 1))
            self._fault(f"position {place.position} again, expected {self.next}")
        elif place.position > self.next:
            self.skipped += place.position - self.next
            self._fault(f"position {place.position}, expected {self.next}")
        self.next = max(self.next, place.position + place.n)

    def end(self, n_tokens: int) -> None:
        """The stream ended, and should have brought this many tokens in all."""
        if self.next < n_tokens:
            self.skipped += n_tokens - self.next
            self._fault(f"ended at position {self.next}, expected {n_tokens}")
        elif self.next > n_tokens:
            self.repeated += self.next - n_tokens
            self._fault(f"ended at position {self.next}, expected only {n_tokens}")

    def _fault(self, what: str) -> None:
        self.first_fault = self.first_fault or what


class StreamMeter:
    """What one stream brought, and when."""

    def __init__(self, on_gap: Callable[[float, int], None], check: bool = False) -> None:
        self._on_gap = on_gap
        """Told every gap between tokens: seconds, how many tokens had it."""
        self.positions = PositionCheck() if check else None
        self.first_token_s: float | None = None
        self.last_token_s: float | None = None
        self.n_tokens = 0
        """Tokens in chunks; a chunk that does not say how many it holds counts as one."""
        self.usage_tokens: int | None = None
        self.prompt_tokens: int | None = None
        self.cached_tokens: int | None = None
        self.finish_reason: str | None = None
        self.instance = ""
        self.resumed = False
        self.done = False
        self.error = ""
        self._rest = b""

    @property
    def output_tokens(self) -> int:
        """By the server's own count, else by chunks."""
        return self.n_tokens if self.usage_tokens is None else self.usage_tokens

    def feed(self, data: bytes, now: float) -> None:
        """Takes what arrived at `now`."""
        if self._rest:
            data = self._rest + data
        lines = data.split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MAX_EVENT_BYTES:
            self.error = f"an event of over {MAX_EVENT_BYTES} bytes"
            self._rest = b""
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:].strip(), now)

    def close(self, asked_tokens: int | None) -> None:
        """The connection ended; decides whether the answer is whole. `asked_tokens` is the length
        that the server was told to produce."""
        if not self.error and not self.done and self.finish_reason is None:
            self.error = BROKE_OFF
        if self.positions is not None and not self.error:
            expected = self.usage_tokens
            if self.finish_reason == "length" and asked_tokens is not None:
                expected = asked_tokens
            self.positions.end(self.n_tokens if expected is None else expected)

    def _event(self, payload: bytes, now: float) -> None:
        if payload == b"[DONE]":
            self.done = True
            return
        try:
            chunk = _decoder.decode(payload)
        except msgspec.MsgspecError as error:
            self.error = self.error or f"an event that is no completion chunk: {error}"
            return
        if chunk.error is not None:
            self.error = self.error or message_of(chunk.error)
        if chunk.usage is not None:
            self._usage(chunk.usage)
        if chunk.choices:
            self._choice(chunk.choices[0], chunk.fairlead, now)

    def _choice(self, choice: _Choice, place: _Place | None, now: float) -> None:
        if choice.finish_reason is not None:
            self.finish_reason = choice.finish_reason
        if place is not None:
            self.instance = place.instance or self.instance
            self.resumed = self.resumed or place.resumed
        if not _holds_output(choice, place):
            return
        if self.positions is not None:
            self.positions.chunk(place)
        n = place.n if place is not None and place.position is not None else 1
        if n == 0:
            return
        if self.last_token_s is None:
            self.first_token_s = now
        else:
            self._on_gap(now - self.last_token_s, 1)
        if n > 1:
            self._on_gap(0.0, n - 1)
        self.last_token_s = now
        self.n_tokens += n

    def _usage(self, usage: _Usage) -> None:
        self.usage_tokens = usage.completion_tokens
        self.prompt_tokens = usage.prompt_tokens
        if usage.prompt_tokens_details is not None:
            self.cached_tokens = usage.prompt_tokens_details.cached_tokens


def _holds_output(choice: _Choice, place: _Place | None) -> bool:
    """Whether a chunk brings output. A plain completion chunk without text and without an end
    holds a token that shows no text yet; a chat chunk without text only names the role."""
    if place is not None and place.position is not None:
        return True
    if choice.delta is not None:
        return bool(choice.delta.content or choice.delta.reasoning_content)
    return bool(choice.text) or (choice.text is not None and choice.finish_reason is None)
