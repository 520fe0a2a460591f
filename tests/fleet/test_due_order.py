"""Who is due when, at one instance."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from fairlead.fleet.due_order import DueOrder
from fairlead.model import RequestId

TIMES = st.one_of(st.integers(0, 5).map(float), st.just(inf))


WAITING = st.lists(st.tuples(TIMES, st.integers(1, 9), st.booleans()))


def order(waiting: list[tuple[float, int, bool]]) -> DueOrder:
    """Sent in this order; called r0, r1 and so on."""
    return DueOrder(
        (due_s, sent, patient, tokens, RequestId(f"r{sent}"))
        for sent, (due_s, tokens, patient) in enumerate(waiting)
    )


@given(WAITING, TIMES, TIMES)
def test_two_searches_find_what_a_walk_would(
    waiting: list[tuple[float, int, bool]], from_s: float, to_s: float
) -> None:
    walked = [tokens for due_s, tokens, _ in waiting if from_s <= due_s <= to_s]
    assert order(waiting).within(from_s, to_s) == (len(walked), sum(walked))


@given(WAITING, st.integers(0, 6).map(float))
def test_who_can_be_in_time_goes_first_then_who_is_late_then_who_was_promised_nothing(
    waiting: list[tuple[float, int, bool]], now: float
) -> None:
    def key(sent: int) -> tuple[int, float, int]:
        due_s = waiting[sent][0]
        return (2 if due_s == inf else 1 if due_s < now else 0, due_s, sent)

    line, by_due = sorted(range(len(waiting)), key=key), order(waiting)
    for place, sent in enumerate(line):
        before = [waiting[other] for other in line[:place]]
        tokens, patient = sum(one[1] for one in before), sum(one[2] for one in before)
        found = by_due.before(RequestId(f"r{sent}"), now)
        assert (found.n, found.tokens, found.n_patient) == (place, tokens, patient)
