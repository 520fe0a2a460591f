"""Two clocks and the difference between them: the worker's own, and the gateway's."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

KEPT_SAMPLES = 16
"""Readings of the gateway's clock that are kept: a quarter of a minute at one ping a second, in
which two good clocks drift apart by less than a message takes."""


class GatewayClock:
    """Translates between this process's monotonic clock and the gateway's.

    An instance lives on the worker's clock, which never jumps; what crosses the wire is on the
    gateway's. A reading reaches us late by the time it travelled, so of the readings kept, the one
    that puts the gateway's clock furthest ahead travelled least and is the best.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._offsets: deque[float] = deque(maxlen=KEPT_SAMPLES)
        self._offset_s = 0.0

    def now_s(self) -> float:
        """The worker's time; it never runs back."""
        return self._monotonic()

    def restart(self, gateway_time_s: float) -> None:
        """A gateway says hello: readings of an earlier one mean nothing any more."""
        self._offsets.clear()
        self.hear(gateway_time_s)

    def hear(self, gateway_time_s: float) -> None:
        """The gateway's clock stood at `gateway_time_s` a moment ago."""
        self._offsets.append(gateway_time_s - self._monotonic())
        self._offset_s = max(self._offsets)

    def ours(self, gateway_s: float) -> float:
        """A time on the gateway's clock, on ours."""
        return gateway_s - self._offset_s

    def gateways(self, our_s: float) -> float:
        """A time on our clock, on the gateway's."""
        return our_s + self._offset_s
