"""Requests that wait in the fleet for an instance, in the order in which a fairness policy lets
them go."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterator
from typing import Any

from fairlead.fleet.tracked import Tracked
from fairlead.policies.fairness import FairnessPolicy, Lane

Line = tuple[Any, ...]
"""Requests of one lane and one model wait in one line: where the first finds no place, nor does
the second."""


class FleetQueue:
    """The lines. One whose call has begun goes before all others: its client is waiting for the
    next word."""

    def __init__(self, fairness: FairnessPolicy) -> None:
        self._fairness = fairness
        self._lines: dict[Line, deque[Tracked]] = {}
        self._last = 0
        """Rank of the last that came; those who go before all have ranks below 0."""
        self._first = 0
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[Tracked]:
        """All of them, by rank: whose call has begun, then by arrival."""
        everybody = [tracked for line in self._lines.values() for tracked in line]
        return iter(sorted(everybody, key=_rank))

    def __contains__(self, tracked: object) -> bool:
        return isinstance(tracked, Tracked) and tracked.line is not None

    def add(self, tracked: Tracked) -> None:
        if tracked.call_has_begun:
            self._first -= 1
            tracked.rank = self._first
        else:
            self._last += 1
            tracked.rank = self._last
        tracked.line = self._line(tracked)
        line = self._lines.get(tracked.line)
        if line is None:
            line = self._lines[tracked.line] = deque()
        line.append(tracked)
        self._n += 1

    def _line(self, tracked: Tracked) -> Line:
        request = tracked.request
        lane = self._fairness.lane(request)
        if tracked.call_has_begun or tracked.unfit:
            # There are instances that would take others, and not this one, or the reverse.
            return (request.model, lane, request.id)
        return (request.model, lane)

    def remove(self, tracked: Tracked) -> None:
        assert tracked.line is not None, f"{tracked!r} does not queue"
        line = self._lines[tracked.line]
        if line[0] is tracked:
            line.popleft()
        else:
            line.remove(tracked)
        if not line:
            del self._lines[tracked.line]
        tracked.line = None
        self._n -= 1

    def next(self, passed_over: Container[Line]) -> Tracked | None:
        """Whose turn it is, lines that are passed over left out."""
        heads = [line[0] for name, line in self._lines.items() if name not in passed_over]
        return min(heads, key=self._turn, default=None)

    def _turn(self, tracked: Tracked) -> tuple[Any, ...]:
        if tracked.call_has_begun:
            return (0, tracked.rank)
        assert tracked.line is not None
        return (1, self._fairness.key(tracked.line[1]), tracked.rank)

    def has_line(self, model: str, lane: Lane) -> bool:
        """Whether anybody waits there already."""
        return (model, lane) in self._lines

    def newest(self, lane: Lane) -> Tracked | None:
        """The last that came to a lane and whose call has not begun."""
        lasts = [line[-1] for name, line in self._lines.items() if name[1] == lane]
        return max((one for one in lasts if not one.call_has_begun), key=_rank, default=None)


def _rank(tracked: Tracked) -> int:
    return tracked.rank
