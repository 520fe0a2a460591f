"""When a worker tells the gateway how it stands: at every heartbeat, and soon after a change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fairlead.worker.clock import GatewayClock

SOONEST_S = 0.05
"""A change such as a finish is reported at once, unless a report went out this recently: the
fleet's shadow bridges that much, and a report of hundreds of sequences is not free."""


class Reports:
    """Times only; `send(whole_cache)` sends one and tells whether it could."""

    def __init__(self, clock: GatewayClock, send: Callable[[bool], bool]) -> None:
        self._clock = clock
        self._send = send
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

    def now(self, whole_cache: bool = False) -> None:
        now = self._clock.now_s()
        if self._send(whole_cache):
            self._sent_s = now
        self._has_news = False
        self._in(self._heartbeat_s)

    def stop(self) -> None:
        if self._next is not None:
            self._next.cancel()

    def _in(self, seconds: float) -> None:
        """The next one goes out then, instead of when it was due."""
        self.stop()
        self._next = asyncio.get_running_loop().call_later(seconds, self.now)
