"""A link that loses, doubles, delays and reorders messages, and that can be cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, nextafter
from random import Random
from typing import Any, NamedTuple

from fairlead.simulate.faults import Messages
from fairlead.simulate.heap import MESSAGE, Heap
from fairlead.simulate.network import Link
from fairlead.simulate.settings import Settings

HELD, LOST = "held", "lost"
LATEST = 5.0
"""A late message is at most so many times as late as the mean says."""


class _Sent(NamedTuple):
    """A message on its way."""

    connection: int
    call: Callable[[Any], None]
    message: Any


class FaultyLink(Link):
    """One direction of a connection that may end, and be followed by another."""

    def __init__(
        self,
        heap: Heap,
        settings: Settings,
        rng: Random,
        troubles: Sequence[tuple[Messages, Random]],
    ) -> None:
        """`troubles` are what misbehaves here, each with its own randomness."""
        super().__init__(heap, settings, rng)
        self._troubles = troubles
        self._connection = 0
        """What belongs to an earlier one does not arrive."""
        self._open = True
        self._cuts: list[str] = []
        """What becomes of messages now, by each of the reasons why nothing passes."""
        self._waiting: list[_Sent] = []
        """Held until nothing cuts the link any more."""

    @property
    def is_cut(self) -> bool:
        return bool(self._cuts)

    def send(self, call: Callable[[Any], None], message: Any) -> None:
        """As ever, if nothing happens to it. What is said while there is no connection is lost."""
        if not self._open:
            return
        extra_s, overtaken = 0.0, False
        for trouble, rng in self._troubles:
            if not trouble.from_s <= self._heap.now < trouble.until_s:
                continue
            lost, doubled, late, reordered = (rng.random() for _ in range(4))
            longer_s = min(rng.expovariate(1 / trouble.late_s), LATEST * trouble.late_s)
            if lost < trouble.lost:
                return
            if doubled < trouble.doubled:
                self._send(call, message, longer_s, overtaken=True)
            if late < trouble.late or reordered < trouble.reordered:
                extra_s += longer_s
            overtaken = overtaken or reordered < trouble.reordered
        self._send(call, message, extra_s, overtaken)

    def send_surely(self, call: Callable[[Any], None], message: Any) -> None:
        """What the connection itself says: that it begins, or is over. Only a cut stops it."""
        self._send(call, message, 0.0, overtaken=False)

    def _send(
        self, call: Callable[[Any], None], message: Any, extra_s: float, overtaken: bool
    ) -> None:
        at_s = self._heap.now + self._delay_s + self._jitter_s * self._random() + extra_s
        if not overtaken:
            if at_s <= self._last_s:
                at_s = nextafter(self._last_s, inf)  # Order is kept by the time alone.
            self._last_s = at_s
        self._heap.at(at_s, MESSAGE, self._arrive, _Sent(self._connection, call, message))

    def _arrive(self, sent: _Sent) -> None:
        if sent.connection != self._connection or LOST in self._cuts:
            return
        if self._cuts:
            self._waiting.append(sent)
        else:
            sent.call(sent.message)

    def end(self) -> None:
        """The connection is over; what is on its way is lost."""
        self._connection += 1
        self._open = False
        self._waiting.clear()
        self._last_s = 0.0

    def begin(self) -> None:
        """There is a new connection."""
        self.end()
        self._open = True

    def cut(self, messages: str) -> None:
        """From now on nothing passes: messages are held or lost."""
        self._cuts.append(messages)

    def mend(self, messages: str) -> None:
        """Ends one such cut; once there is none, what was held arrives."""
        self._cuts.remove(messages)
        if self._cuts:
            return
        waiting, self._waiting = self._waiting, []
        for sent in waiting:
            self._arrive(sent)
