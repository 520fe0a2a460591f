"""Requests that wait in the fleet for an instance, in the order in which a fairness policy lets
them go; those whose order is left open, by when they are due."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from fairlead.fleet.tracked import Tracked
from fairlead.model import RequestId
from fairlead.policies.fairness import FairnessPolicy, Lane

Line = tuple[Any, ...]
"""Requests of one lane and one model wait in one line: where the first finds no place, nor does
the second."""

LOOKED_AT = 16
"""So many of one line may be passed over because they wait for an instance that has no turn for
them; where all of these do, nor do those behind them go."""
PASSED_OVER = 64
"""So many requests for one model are asked each time whether their turn has come: a bound on what
a crowd of users costs, each of whom has a line of their own."""


class Before(NamedTuple):
    """So many of a line go before somebody."""

    n: int
    of: int

    @property
    def part(self) -> float:
        return self.n / self.of if self.n else 0.0


NOBODY = Before(0, 0)


class FleetQueue:
    """The lines. One whose call has begun goes before all others: its client is waiting for the
    next word."""

    def __init__(self, fairness: FairnessPolicy) -> None:
        self._fairness = fairness
        self._lines: dict[Line, list[Tracked]] = {}
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
            line = self._lines[tracked.line] = []
        insort(line, tracked, key=_place)
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
        del line[bisect_left(line, _place(tracked), key=_place)]
        if not line:
            del self._lines[tracked.line]
        tracked.line = None
        self._n -= 1

    def in_turn(self) -> Iterator[Tracked]:
        """As their turns come, the first of each line. Holds until somebody comes or goes."""
        lines = sorted(self._lines.values(), key=lambda line: self._turn(line[0]))
        for line in lines:
            yield from line[:LOOKED_AT]

    def _turn(self, tracked: Tracked) -> tuple[Any, ...]:
        if tracked.call_has_begun:
            return (0, tracked.rank)
        assert tracked.line is not None
        return (1, self._fairness.key(tracked.line[1]), tracked.rank)

    def before(self, model: str, lane: Lane, due_s: float) -> Before:
        """Those who wait there and would go before one that came now and is due then."""
        line = self._lines.get((model, lane), ())
        return Before(bisect_right(line, due_s, key=_due), len(line))

    def newest(self, lane: Lane) -> Tracked | None:
        """The last that came to a lane and whose call has not begun."""
        lines = [line for name, line in self._lines.items() if name[1] == lane]
        fresh = [one for line in lines for one in line if not one.call_has_begun]
        return max(fresh, key=_rank, default=None)


class LeftOut:
    """Those that were looked at already while the queue is gone through once, and stay."""

    def __init__(self) -> None:
        self._requests: dict[RequestId, None] = {}
        self._lines: dict[Line, None] = {}
        self._full: dict[str, None] = {}
        """Models for which all that begin requests are full."""
        self._n: Counter[str] = Counter()
        """By model, how many have stayed."""

    def holds(self, tracked: Tracked) -> bool:
        model, line = tracked.request.model, tracked.line
        assert line is not None
        if (
            self._n[model] >= PASSED_OVER
            or line in self._lines
            or tracked.request.id in self._requests
        ):
            return True
        # Who is too long for all that begin requests may go elsewhere.
        return model in self._full and not tracked.unfit

    def add(self, tracked: Tracked) -> None:
        self._requests[tracked.request.id] = None
        self._n[tracked.request.model] += 1

    def add_line(self, tracked: Tracked, *, all_alike: bool) -> None:
        """Nobody has room for it, nor for those behind it; where `all_alike`, for nobody."""
        assert tracked.line is not None
        self._lines[tracked.line] = None
        if tracked.unfit:
            return  # Others may have room where it does not fit.
        self._n[tracked.request.model] += 1
        if all_alike:
            self._full[tracked.request.model] = None


def _rank(tracked: Tracked) -> int:
    return tracked.rank


def _due(tracked: Tracked) -> float:
    return tracked.due_s


def _place(tracked: Tracked) -> tuple[float, int]:
    """In its line: who is due sooner goes first, then who came first."""
    return (tracked.due_s, tracked.rank)
