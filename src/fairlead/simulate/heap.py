"""What happens when: calls on a virtual clock."""

from __future__ import annotations

import heapq
from collections.abc import Callable


class Heap:
    """Calls in order of time; equal times in order of rank, then as they were asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, int, Callable[[], None]]] = []
        self._counter = 0

    def at(self, time_s: float, rank: int, call: Callable[[], None]) -> None:
        """Has `call` happen at `time_s`, or now if that is past. The smaller rank goes first."""
        self._counter += 1
        heapq.heappush(self._heap, (max(time_s, self.now), rank, self._counter, call))

    def __len__(self) -> int:
        return len(self._heap)

    def run_next(self) -> None:
        """Moves the clock to the next call, and makes it."""
        self.now, _, _, call = heapq.heappop(self._heap)
        call()
