"""Who is at an instance, from being sent to being gone."""

from __future__ import annotations

import pytest

from fairlead.fleet.ledger import Ledger, Pending
from fairlead.fleet.tracked import Tracked
from fairlead.model import InstanceId, RequestId
from tests.strategies import request

A, R1, R2 = InstanceId("a"), RequestId("r1"), RequestId("r2")


def pending(tokens: int, end: int | None = None, *, patient: bool = False) -> Pending:
    return Pending(tokens, tokens if end is None else end, 1.0, patient)


def test_whoever_begins_waits_no_more_and_runs() -> None:
    ledger = Ledger()
    ledger.send(R1, 1, pending(10))
    ledger.send(R2, 1, pending(30, patient=True))
    assert (ledger.running, ledger.promised_tokens, ledger.n_patient) == (0, 40, 1)
    assert ledger.begin(R2).tokens == 30
    assert (ledger.running, ledger.promised_tokens, ledger.n_patient) == (1, 10, 0)
    assert ledger.held() == [R1, R2]


def test_whoever_is_preempted_waits_behind_all() -> None:
    ledger = Ledger()
    for id in (R1, R2):
        ledger.send(id, 1, pending(10))
    ledger.begin(R1)
    ledger.preempt(R1, pending(15))
    assert (ledger.running, ledger.promised_tokens) == (0, 25)
    assert ledger.held() == [R2, R1]


def test_whoever_is_on_the_way_counts_as_running_and_is_not_here() -> None:
    ledger = Ledger()
    ledger.expect(R1, 2, 100)
    assert (ledger.running, ledger.held(), dict(ledger.attempts)) == (1, [], {R1: 2})
    assert ledger.arrive(R1) == 100
    assert (ledger.running, ledger.held(), ledger.coming) == (1, [R1], {})
    ledger.expect(R2, 2, 50)
    assert ledger.expect_no_more(R2) == 50
    assert (ledger.running, dict(ledger.attempts)) == (1, {R1: 2})


def test_whoever_is_released_leaves_nothing() -> None:
    ledger = Ledger()
    for id in (R1, R2):
        ledger.send(id, 1, pending(10))
    ledger.begin(R1)
    assert ledger.release(R1) is None
    gone = ledger.release(R2)
    assert gone is not None
    assert gone.tokens == 10
    assert (ledger.running, ledger.promised_tokens, ledger.usual_place) == (0, 0, 0)
    assert not ledger.attempts


def test_where_the_tokens_to_be_computed_are_in_their_prompts() -> None:
    """The last ten of a hundred are at 95, a prompt of thirty at fifteen."""
    ledger = Ledger()
    ledger.send(R1, 1, pending(10, end=100))
    assert ledger.usual_place == 95
    ledger.send(R2, 1, pending(30))
    assert ledger.usual_place == (10 * 95 + 30 * 15) // 40


def test_what_a_report_does_not_know_is_what_was_sent_since() -> None:
    ledger = Ledger()
    ledger.send(R1, 1, pending(10))
    ledger.send(R2, 1, pending(30))
    ledger.expect(RequestId("r3"), 1, 7)
    assert ledger.unseen_tokens({R1: 1}) == 30
    assert ledger.unseen_context({R1: 1}) == 7
    assert ledger.unseen_context({RequestId("r3"): 1}) == 0


def test_the_checker_finds_who_has_gone_elsewhere() -> None:
    ledger = Ledger()
    ledger.send(R1, 1, pending(10))
    tracked = Tracked(request("r1"), 0.0)
    tracked.instance, tracked.attempt = A, 1
    ledger.check_invariants(A, {R1: tracked})
    tracked.instance = InstanceId("b")
    with pytest.raises(AssertionError, match="a holds"):
        ledger.check_invariants(A, {R1: tracked})
