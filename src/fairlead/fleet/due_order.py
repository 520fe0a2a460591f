"""Those who wait at one instance in the order in which they are due: how many, and how many tokens
of prompts, are due within a time. A decision asks every instance, so this is two searches and not a
walk over all who wait."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import accumulate


class DueOrder:
    __slots__ = ("_dues_s", "_tokens_before")

    def __init__(self, waiting: Iterable[tuple[float, int]]) -> None:
        """`waiting` are when each is due and how many tokens are to be computed for it."""
        in_order = sorted(waiting)
        self._dues_s = [due_s for due_s, _ in in_order]
        self._tokens_before = [0, *accumulate(tokens for _, tokens in in_order)]

    def within(self, from_s: float, to_s: float) -> tuple[int, int]:
        """Who is due from the one time to the other, both included, and their tokens."""
        first = bisect_left(self._dues_s, from_s)
        end = bisect_right(self._dues_s, to_s, first)
        return end - first, self._tokens_before[end] - self._tokens_before[first]
