"""Those who wait at one instance in the order in which they are due: how many, and how many tokens
of prompts, are due within a time. A decision asks every instance, so this is two searches and not a
walk over all who wait."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import accumulate

from fairlead.model import RequestId


class Ahead:
    """Who is computed before somebody."""

    __slots__ = ("n", "n_patient", "tokens")

    def __init__(self, n: int, tokens: float, n_patient: int) -> None:
        self.n = n
        self.tokens = tokens
        """Of their prompts, still to be computed."""
        self.n_patient = n_patient
        """Of them, who let others go first."""


class DueOrder:
    __slots__ = ("_dues_s", "_in_order", "_patient_before", "_places", "_tokens_before")

    def __init__(self, waiting: Iterable[tuple[float, int, bool, int, RequestId]]) -> None:
        """`waiting` are when each is due, its number in the order in which they were sent, whether
        it is patient, how many tokens are to be computed for it, and its name."""
        self._in_order = sorted(waiting)
        self._dues_s = [due_s for due_s, _, _, _, _ in self._in_order]
        self._tokens_before = [0, *accumulate(tokens for _, _, _, tokens, _ in self._in_order)]
        self._places: dict[RequestId, int] | None = None
        """None: nobody has asked about one of them."""
        self._patient_before: list[int] = []

    def within(self, from_s: float, to_s: float) -> tuple[int, int]:
        """Who is due from the one time to the other, both included, and their tokens."""
        first = bisect_left(self._dues_s, from_s)
        end = bisect_right(self._dues_s, to_s, first)
        return end - first, self._tokens_before[end] - self._tokens_before[first]

    def before(self, id: RequestId, now: float) -> Ahead:
        """Who goes before one of them: first those that can be in time, then those that are late,
        then those that are promised nothing; of equals whoever was sent first."""
        if self._places is None:
            self._places = {id: place for place, (*_, id) in enumerate(self._in_order)}
            patient = (patient for _, _, patient, _, _ in self._in_order)
            self._patient_before = [0, *accumulate(map(int, patient))]
        place = self._places[id]
        due_s, n_late = self._dues_s[place], bisect_left(self._dues_s, now)
        if place < n_late:
            untimed = bisect_left(self._dues_s, float("inf"))
            spans = [(n_late, untimed), (0, place)]
        else:
            spans = [(0 if due_s == float("inf") else n_late, place)]
        n = tokens = n_patient = 0
        for start, end in spans:
            n += end - start
            tokens += self._tokens_before[end] - self._tokens_before[start]
            n_patient += self._patient_before[end] - self._patient_before[start]
        return Ahead(n, tokens, n_patient)
