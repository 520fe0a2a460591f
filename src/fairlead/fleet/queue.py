"""Requests that wait in the fleet for an instance, in the order in which a fairness policy lets
them go; those whose order is left open, by when they are due."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

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


class FleetQueue:
    """The lines, and before all of them those who have had their turn already: their clients may be
    waiting for the next word."""

    def __init__(self, fairness: FairnessPolicy) -> None:
        self._fairness = fairness
        self._first: dict[RequestId, Tracked] = {}
        self._lanes: dict[Lane, dict[Line, list[Tracked]]] = {}
        self._last_rank = 0
        self.n_of_model: Counter[str] = Counter()
        """How many wait, for each model that anybody waits for."""

    def __len__(self) -> int:
        return self.n_of_model.total()

    def __iter__(self) -> Iterator[Tracked]:
        """All of them: who has had a turn, then by arrival."""
        yield from self._first.values()
        yield from sorted((one for line in self._lines() for one in line), key=_rank)

    def _lines(self) -> Iterator[list[Tracked]]:
        return (line for lane in self._lanes.values() for line in lane.values())

    def __contains__(self, tracked: object) -> bool:
        return isinstance(tracked, Tracked) and tracked.line is not None

    def add(self, tracked: Tracked) -> None:
        request = tracked.request
        lane = self._fairness.lane(request)
        self.n_of_model[request.model] += 1
        if tracked.had_turn:
            tracked.line = (request.model, lane, request.id)
            self._first[request.id] = tracked
            return
        self._last_rank += 1
        tracked.rank = self._last_rank
        # There are instances that would take others, and not one that is unfit for some.
        tracked.line = (request.model, lane, *([request.id] if tracked.unfit else ()))
        line = self._lanes.setdefault(lane, {}).setdefault(tracked.line, [])
        insort(line, tracked, key=_place)

    def remove(self, tracked: Tracked) -> None:
        assert tracked.line is not None, f"{tracked!r} does not queue"
        model, lane, *_ = tracked.line
        if self._first.pop(tracked.request.id, None) is None:
            lines = self._lanes[lane]
            line = lines[tracked.line]
            del line[bisect_left(line, _place(tracked), key=_place)]
            if not line:
                del lines[tracked.line]
            if not lines:
                del self._lanes[lane]
        tracked.line = None
        self.n_of_model[model] -= 1
        if not self.n_of_model[model]:
            del self.n_of_model[model]

    def in_turn(self) -> Iterator[Tracked]:
        """As their turns come, the first of each line. Holds until somebody comes or goes."""
        yield from self._first.values()
        for lane in self._fairness.in_turn():
            lines = self._lanes.get(lane, {}).values()
            for line in sorted(lines, key=_rank_of_first) if len(lines) > 1 else lines:
                yield from line[:LOOKED_AT]

    def n_before(self, model: str, lane: Lane, due_s: float) -> int:
        """Those who wait there and would go before one that came now and is due then."""
        line = self._lanes.get(lane, {}).get((model, lane), ())
        return bisect_right(line, due_s, key=_due)

    def newest(self, lane: Lane) -> Tracked | None:
        """The last that came to a lane and has not had its turn."""
        lines = self._lanes.get(lane, {}).values()
        return max((one for line in lines for one in line), key=_rank, default=None)


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

    def all_of(self, models: Iterable[str]) -> bool:
        """Whether nobody else who waits for one of these is to be asked."""
        return all(self._n[model] >= PASSED_OVER for model in models)

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


def _rank_of_first(line: list[Tracked]) -> int:
    return line[0].rank


def _due(tracked: Tracked) -> float:
    return tracked.due_s


def _place(tracked: Tracked) -> tuple[float, int]:
    """In its line: who is due sooner goes first, then who came first."""
    return (tracked.due_s, tracked.rank)
