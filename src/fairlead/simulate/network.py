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


class PeerLink(Link):
    """What an instance sends to other instances: all of it through one port, one after another."""

    def __init__(self, heap: Heap, settings: Settings, rng: Random, bytes_per_s: float) -> None:
        super().__init__(heap, settings, rng)
        self._bytes_per_s = bytes_per_s
        self._free_s = 0.0
        """When the port has sent all that it was given."""

    def carry(self, call: Callable[[Any], None], message: Any, n_bytes: float) -> None:
        """As `send`, for something large."""
        self._free_s = max(self._free_s, self._heap.now) + n_bytes / self._bytes_per_s
        at_s = self._free_s + self._delay_s + self._jitter_s * self._random()
        self._last_s = max(self._last_s, at_s)
        self._heap.at(self._last_s, MESSAGE, call, message)

    def busy_s(self) -> float:
        """How long what was given to it will take from now."""
        return max(self._free_s - self._heap.now, 0.0)
