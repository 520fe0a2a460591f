"""What those that decode together were promised, and who of them falls behind next."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairlead.instance.sequence import Sequence

UNSURE_S = 1e-6
"""By less than this, rounding may have put two in the wrong order."""


class Promised:
    """Members of the group, by pace and then by when their next token is due.

    Each iteration gives everybody a token and with it one pace more time, so those of one pace
    never overtake each other: each is written down once, with when its token would have been due
    had there been no iterations.
    """

    def __init__(self) -> None:
        self.deadlines: dict[Sequence, None] = {}
        """Those that have a deadline, and no pace to keep until then."""
        self._paces: dict[float, list[tuple[float, int, Sequence]]] = {}

    def add(self, sequence: Sequence, iterations: int) -> None:
        pace_s = sequence.objective.tpot_s
        if pace_s is not None and sequence.first_token_s is not None:
            insort(self._paces.setdefault(pace_s, []), _entry(sequence, pace_s, iterations))
        elif sequence.objective.deadline_s is not None:
            self.deadlines[sequence] = None

    def remove(self, sequence: Sequence, iterations: int) -> None:
        pace_s = sequence.objective.tpot_s
        if pace_s is not None and sequence.first_token_s is not None:
            line = self._paces[pace_s]
            del line[bisect_left(line, _entry(sequence, pace_s, iterations))]
            if not line:
                del self._paces[pace_s]
        else:
            self.deadlines.pop(sequence, None)

    def next_due_s(self, now: float, iterations: int) -> float:
        """When the next of them must have a token to keep its pace, those left out that are late;
        infinity where nobody must."""
        earliest_s = float("inf")
        for pace_s, line in self._paces.items():
            place = bisect_left(line, (now - iterations * pace_s - UNSURE_S,))
            while place < len(line):
                due_s = _due_s(line[place][2], pace_s)
                if due_s > now:
                    earliest_s = min(earliest_s, due_s)
                    break
                place += 1
        return earliest_s

    def check_invariants(self, members: Iterable[Sequence], iterations: int) -> None:
        """All members are here, in their places."""
        other = Promised()
        for sequence in members:
            other.add(sequence, iterations)
        assert self._paces == other._paces
        assert set(self.deadlines) == set(other.deadlines)


def _entry(sequence: Sequence, pace_s: float, iterations: int) -> tuple[float, int, Sequence]:
    assert sequence.first_token_s is not None
    at_0_s = sequence.first_token_s + (sequence.n_produced - iterations) * pace_s
    return at_0_s, sequence.admitted, sequence


def _due_s(sequence: Sequence, pace_s: float) -> float:
    assert sequence.first_token_s is not None
    return sequence.first_token_s + sequence.n_produced * pace_s
