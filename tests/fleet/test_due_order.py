"""Who is due when, at one instance."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from fairlead.fleet.due_order import DueOrder

TIMES = st.one_of(st.integers(0, 5).map(float), st.just(inf))


@given(st.lists(st.tuples(TIMES, st.integers(1, 9))), TIMES, TIMES)
def test_two_searches_find_what_a_walk_would(
    waiting: list[tuple[float, int]], from_s: float, to_s: float
) -> None:
    walked = [tokens for due_s, tokens in waiting if from_s <= due_s <= to_s]
    assert DueOrder(waiting).within(from_s, to_s) == (len(walked), sum(walked))
