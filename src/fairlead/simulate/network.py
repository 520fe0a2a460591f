"""The way between the fleet and its instances: late, and in order."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from fairlead.simulate.heap import MESSAGE, Heap
from fairlead.simulate.settings import Settings


class Link:
    """One direction between the fleet and an instance. Like a TCP connection it keeps order."""

    def __init__(self, heap: Heap, settings: Settings, rng: Random) -> None:
        self._heap = heap
        self._delay_s = settings.delay_s
        self._jitter_s = settings.jitter_s
        self._random = rng.random
        self._last_s = 0.0

    def send(self, call: Callable[[Any], None], message: Any) -> None:
        """`call(message)` happens where the link ends, when the message gets there."""
        at_s = self._heap.now + self._delay_s + self._jitter_s * self._random()
        if at_s < self._last_s:
            at_s = self._last_s
        self._last_s = at_s
        self._heap.at(at_s, MESSAGE, call, message)
