"""What the begins of others say to those who wait."""

from __future__ import annotations

import pytest

from fairlead.fleet.turns import RATE_NEEDS, Turns


def turns(n: int, every_s: float, patient_every: int = 0) -> Turns:
    found = Turns(-1.0)
    for i in range(n):
        found.began(i * every_s, bool(patient_every) and i % patient_every == 0)
    return found


def test_a_queue_moves_as_fast_as_it_did() -> None:
    assert turns(65, every_s=0.5).wait_s(20, now=32.0) == pytest.approx(10.0, rel=0.05)


def test_of_few_begins_and_of_few_who_are_ahead_nothing_is_said() -> None:
    assert turns(RATE_NEEDS - 1, every_s=0.5).wait_s(20, now=4.0) == 0.0
    assert turns(64, every_s=0.5).wait_s(RATE_NEEDS - 1, now=32.0) == 0.0
    assert turns(RATE_NEEDS - 1, every_s=0.5).patient_wait_s(5, now=4.0) == 0.0


def test_what_began_while_nobody_waited_says_nothing() -> None:
    quiet = turns(64, every_s=0.5)
    quiet.nobody_waits(31.0)
    assert quiet.wait_s(20, now=32.0) == 0.0


def test_patient_ones_wait_for_their_own_kind_of_turns() -> None:
    """One in four that began was patient, so they have two seconds each."""
    mixed = turns(65, every_s=0.5, patient_every=4)
    assert mixed.patient_wait_s(3, now=32.0) == pytest.approx(6.0, rel=0.1)


def test_where_none_of_them_began_the_next_to_begin_may_be_one() -> None:
    assert turns(65, every_s=0.5).patient_wait_s(1, now=32.0) == pytest.approx(32.0, rel=0.05)


def test_asking_changes_nothing() -> None:
    steady = turns(65, every_s=0.5)
    before = steady.wait_s(20, now=32.0)
    steady.n_later_than(30.0)
    steady.patient_wait_s(3, now=32.0)
    assert steady.wait_s(20, now=32.0) == before
