"""When a worker tells the gateway how it stands: at every heartbeat, and soon after a change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from fairlead.model import Report
from fairlead.worker.clock import GatewayClock
from fairlead.worker.link import Link
from fairlead.worker.wire import Heartbeat

SOONEST_S = 0.05
"""A change such as a finish is reported at once, unless a report went out this recently: the
fleet's shadow bridges that much, and a report of hundreds of sequences is not free."""


class Reports:
    """`picture(now, whole_cache)` is what one tells. None is made while nobody reads: cache news
    that are not sent would be lost."""

    def __init__(
        self, link: Link, clock: GatewayClock, picture: Callable[[float, bool], Report]
    ) -> None:
        self._link = link
        self._clock = clock
        self._picture = picture
        self._leaving = False
        self._heartbeat_s = 1.0
        self._sent_s = float("-inf")
        self._next: asyncio.TimerHandle | None = None
        self._has_news = False
        """The next one is due for a change, earlier than the heartbeat."""

    def begin(self, heartbeat_s: float) -> None:
        """The gateway knows nothing of us yet, so the first one tells all."""
        self._heartbeat_s = heartbeat_s
        self.now(whole_cache=True)

    def soon(self) -> None:
        """Something changed that the fleet had better know before the next heartbeat."""
        if not self._has_news:
            self._has_news = True
            self._in(max(self._sent_s + SOONEST_S - self._clock.now_s(), 0.0))

    def leave(self) -> None:
        """Each says from now on that the worker is about to go."""
        self._leaving = True
        self.soon()

    def now(self, whole_cache: bool = False) -> None:
        if self._link.ready:
            self._send(whole_cache)
        self._has_news = False
        self._in(self._heartbeat_s)

    def _send(self, whole_cache: bool) -> None:
        self._sent_s = now = self._clock.now_s()
        report = self._picture(now, whole_cache)
        report = msgspec.structs.replace(report, as_of_s=self._clock.gateways(now))
        self._link.send(Heartbeat(report, leaving=self._leaving))

    def stop(self) -> None:
        if self._next is not None:
            self._next.cancel()

    def _in(self, seconds: float) -> None:
        """The next one goes out then, instead of when it was due."""
        self.stop()
        self._next = asyncio.get_running_loop().call_later(seconds, self.now)
