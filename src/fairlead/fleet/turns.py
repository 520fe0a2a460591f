"""When requests began on one instance, and what that says to those who wait there."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque

RATE_OF = 64
"""How fast requests begin is taken from so many of the last ones that began while others waited;"""
RATE_NEEDS = 8
"""from fewer it is not known."""
REMEMBERED = 512


class Turns:
    __slots__ = ("_begun_s", "_queue_since_s")

    def __init__(self, now: float) -> None:
        self._begun_s: deque[float] = deque(maxlen=REMEMBERED)
        """When the last first tokens came."""
        self._queue_since_s = now
        """Since when somebody has waited all the time."""

    def began(self, now: float) -> None:
        self._begun_s.append(now)

    def nobody_waits(self, now: float) -> None:
        self._queue_since_s = now

    def n_later_than(self, since_s: float) -> int:
        """How many began after that."""
        return len(self._begun_s) - bisect_right(self._begun_s, since_s)

    def wait_s(self, n_ahead: int, now: float) -> float:
        """Time until so many have begun, as fast as others did while there was a queue; 0 where
        that is not known."""
        n = len(self._begun_s)
        if n_ahead < RATE_NEEDS or n < RATE_NEEDS:
            return 0.0
        since_s = max(self._begun_s[-min(n, RATE_OF)], self._queue_since_s)
        n_begun = self.n_later_than(since_s)
        if n_begun < RATE_NEEDS:
            return 0.0
        return n_ahead * (now - since_s) / n_begun
