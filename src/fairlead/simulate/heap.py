"""What happens when: calls on a virtual clock."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random
from typing import Any

MESSAGE, STEP, REPORT, ARRIVAL, TICK, FAULT = range(6)
"""Ranks of what falls on one instant: the smaller goes first."""


class Heap:
    """Calls in order of time; equal times in order of rank, then as they were asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, int, Callable[[Any], None], Any]] = []
        self._counter = 0

    def at(self, time_s: float, rank: int, call: Callable[[Any], None], argument: Any) -> None:
        """Has `call(argument)` happen at `time_s`, or now if that is past."""
        self._counter += 1
        if time_s < self.now:
            time_s = self.now
        heapq.heappush(self._heap, (time_s, rank, self._counter, call, argument))

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def n_events(self) -> int:
        """Calls that were ever asked for."""
        return self._counter

    def run_next(self) -> None:
        """Moves the clock to the next call, and makes it."""
        self.now, _, _, call, argument = heapq.heappop(self._heap)
        call(argument)

    def run_until(self, time_s: float) -> None:
        """Everything up to `time_s` happens."""
        while self._heap and self._heap[0][0] <= time_s:
            self.run_next()


class ShuffledHeap(Heap):
    """What falls on one instant happens in an order that is drawn."""

    def __init__(self, rng: Random) -> None:
        super().__init__()
        self._rng = rng

    def at(self, time_s: float, rank: int, call: Callable[[Any], None], argument: Any) -> None:
        super().at(time_s, self._rng.getrandbits(30), call, argument)
