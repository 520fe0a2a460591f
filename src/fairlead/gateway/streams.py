"""From the tokens of requests to the reply of the call that they belong to."""

from __future__ import annotations

import time
from typing import Any

from fairlead.gateway import failures
from fairlead.gateway.asked import Asked
from fairlead.gateway.choices import Choice, DetailedChoice, StreamedChoice
from fairlead.gateway.driver import Driver, Outlet
from fairlead.gateway.exchange import Exchange
from fairlead.gateway.render import DONE, ChunkText, call_id, usage, whole
from fairlead.gateway.tenants.door import Meter
from fairlead.gateway.tools.choices import CallingChoice, StreamedCalls
from fairlead.model import Cancelled, CancelWhy, RequestError
from fairlead.store.call_record import CANCELLED, FAILED, FINISHED

_STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class Call:
    """One HTTP call: its choices go in as requests, and come out as one reply."""

    def __init__(
        self, asked: Asked, exchange: Exchange, driver: Driver, meter: Meter | None = None
    ) -> None:
        """`meter` counts what goes out."""
        self.asked = asked
        self.exchange = exchange
        self.over = False
        self._driver = driver
        self._meter = meter
        self._id = self._name()
        self._created = int(time.time())
        self.chunks = ChunkText(asked, self._id, self._created) if asked.stream else None
        make = self._choice_kind()
        self.choices = [make(self, index, r) for index, r in enumerate(asked.requests)]
        self._n_open = len(self.choices)

    def begin(self) -> None:
        """Sends the requests into the fleet. The rest follows from what comes back."""
        self.exchange.on_gone = self.abandon
        self.exchange.extra_headers.append((b"x-request-id", self._id.encode()))
        for choice in self.choices:
            if not self.over:
                self._driver.open(choice.request, self._watched(choice))

    def write(self, data: bytes) -> None:
        """Events of a stream. It begins with its first token, so that a rejection can still be a
        status."""
        if self.exchange.started:
            self.exchange.write(data)
            return
        self.exchange.start(_STREAM_HEADERS, self._first_words() + data)

    def close_choice(self, last_words: bytes) -> None:
        """One choice has ended well; the last one ends the call."""
        self._n_open -= 1
        if self._n_open:
            if last_words:
                self.write(last_words)
            return
        self._end(FINISHED)
        if not self.asked.stream:
            self.exchange.reply(200, [(b"content-type", b"application/json")], self._whole())
            return
        if not self.exchange.started:
            self.write(b"")
        self.exchange.end(last_words + self._goodbye())

    def fail(self, error: RequestError) -> None:
        """No good end: the client is told, and choices still under way are cancelled."""
        if self.over:
            return
        self._end(FAILED)
        self._cancel(CancelWhy.SUPERSEDED)
        if self.exchange.started:
            self.exchange.end(self._bad_end(error))
        else:
            body = self.exchange.error_body(error)
            self.exchange.reply(error.status, failures.headers(error), body)

    def abandon(self, why: CancelWhy) -> None:
        """Nobody wants the rest of the output."""
        if not self.over:
            self._end(CANCELLED)
        self._cancel(why)

    def let_go(self) -> None:
        """It is over and answered. Nothing of it refers to itself any more, so that its prompts go
        at once and not when the garbage collector looks, which is rarely."""
        self.exchange.on_gone = None
        for choice in self.choices:
            choice.let_go()
        self.choices = []

    def _end(self, outcome: str) -> None:
        """Exactly once: the call is over, and what it came to is known."""
        self.over = True
        if self._meter is not None:
            self._meter.end(outcome, self._cached_tokens())

    def _cancel(self, why: CancelWhy) -> None:
        for choice in self.choices:
            if self._driver.outlets.pop(choice.request.id, None) is not None:
                self._driver.handle(Cancelled(choice.request.id, why))

    # ------------------------------------------------ the API's own shape; translations have theirs

    def _name(self) -> str:
        """The id that the client sees."""
        return call_id(self.asked)

    def _watched(self, choice: Choice) -> Outlet:
        """Where its output goes, counted on the way."""
        return choice if self._meter is None else self._meter.watch(choice)

    def _choice_kind(self) -> type[Choice]:
        return _outlet_kind(self.asked)

    def _first_words(self) -> bytes:
        """What a stream begins with."""
        if not self.asked.chat or self.chunks is None:
            return b""
        return b"".join([self.chunks.choice(c.index, "", role=True) for c in self.choices])

    def _goodbye(self) -> bytes:
        """What a stream that has gone well ends with."""
        assert self.chunks is not None
        used = self.chunks.usage(self._usage()) if self.asked.include_usage else b""
        return used + DONE

    def _bad_end(self, error: RequestError) -> bytes:
        """What a stream that has begun and cannot go on ends with."""
        return b"data: " + failures.body(error) + b"\n\n"

    def _whole(self) -> bytes:
        """The reply of a call that does not stream."""
        choices = [choice.whole() for choice in self.choices]
        return whole(self.asked, self._id, self._created, choices, self._usage())

    def _usage(self) -> dict[str, Any]:
        """A prompt counts once, whatever its choices; it was cached as far as for all of them."""
        output_tokens = sum([choice.n_tokens for choice in self.choices])
        return usage(self.asked.prompt_tokens, output_tokens, self._cached_tokens())

    def _cached_tokens(self) -> int:
        n, choices = self.asked.n, self.choices
        return sum(
            [min([c.cached_tokens for c in choices[i : i + n]]) for i in range(0, len(choices), n)]
        )


def _outlet_kind(asked: Asked) -> type[Choice]:
    if asked.calls is not None:
        return StreamedCalls if asked.stream else CallingChoice
    if not asked.stream:
        return Choice
    return DetailedChoice if asked.logprobs or asked.positions else StreamedChoice
