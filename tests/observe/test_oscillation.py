"""Moves that are taken back are counted, and nothing else is."""

from __future__ import annotations

import pytest

from fairlead.model import (
    Action,
    Complete,
    CompleteWhy,
    Dispatch,
    DispatchWhy,
    Event,
    HandedOff,
    Handoff,
    HandoffWhy,
    InstanceDown,
    InstanceId,
    Outcome,
    RequestId,
    Tick,
)
from fairlead.observe.oscillation import Oscillations
from fairlead.simulate import simulate
from tests.papers import test_llumnix
from tests.strategies import request


class Told:
    """An observer that is told of moves in short."""

    def __init__(self) -> None:
        self.seen = Oscillations(window_s=30.0, pair_window_s=5.0)

    def send(self, id: str, to: str, now: float = 0.0) -> None:
        self._dispatch(id, to, DispatchWhy.ROUTED, now)

    def resend(self, id: str, to: str, now: float) -> None:
        self._dispatch(id, to, DispatchWhy.MOVED, now)

    def _dispatch(self, id: str, to: str, why: DispatchWhy, now: float) -> None:
        self._tell(Tick(), Dispatch(InstanceId(to), request(id), 1, (), why), now)

    def hand_off(
        self,
        id: str,
        source: str,
        target: str,
        now: float,
        why: HandoffWhy = HandoffWhy.REBALANCE,
        done: bool = True,
    ) -> None:
        here, there, name = InstanceId(source), InstanceId(target), RequestId(id)
        self._tell(Tick(), Handoff(here, there, name, 1, 2, why), now)
        self._tell(HandedOff(here, name, 1, done), None, now)

    def _tell(self, event: Event, action: Action | None, now: float) -> None:
        self.seen.observe(event, [] if action is None else [action], now)

    def end(self, id: str) -> None:
        complete = Complete(RequestId(id), Outcome.FINISHED, None, CompleteWhy.ENDED)
        self._tell(Tick(), complete, 0.0)

    def lose(self, id: str) -> None:
        self._tell(InstanceDown(InstanceId(id)), None, 0.0)

    @property
    def counts(self) -> tuple[int, int]:
        return self.seen.counts["request"], self.seen.counts["pair"]


@pytest.fixture
def told() -> Told:
    told = Told()
    told.send("r1", "a")
    told.send("r2", "b")
    return told


def test_a_move_on_is_no_move_back(told: Told) -> None:
    told.resend("r1", "b", 1.0)
    told.resend("r1", "c", 2.0)
    assert (told.seen.moves, told.counts) == (2, (0, 0))


def test_a_request_that_comes_back_counts_as_a_request_and_as_a_pair(told: Told) -> None:
    told.resend("r1", "b", 1.0)
    told.resend("r1", "a", 2.0)
    assert told.counts == (1, 1)


def test_it_comes_back_by_a_detour_as_well(told: Told) -> None:
    told.hand_off("r1", "a", "b", 1.0)
    told.hand_off("r1", "b", "c", 2.0)
    told.hand_off("r1", "c", "a", 3.0)
    assert told.counts == (1, 0)


def test_others_that_go_the_other_way_are_a_pair(told: Told) -> None:
    told.hand_off("r1", "a", "b", 1.0)
    told.resend("r2", "a", 2.0)
    assert told.counts == (0, 1)


def test_what_comes_back_late_is_no_oscillation(told: Told) -> None:
    told.resend("r1", "b", 1.0)
    told.resend("r1", "a", 7.0)
    assert told.counts == (1, 0)
    told.resend("r1", "b", 40.0)
    assert told.counts == (1, 0)


def test_a_hand_off_counts_once_it_is_done(told: Told) -> None:
    told.hand_off("r1", "a", "b", 1.0, done=False)
    told.resend("r2", "a", 2.0)
    assert (told.seen.moves, told.counts) == (1, (0, 0))


def test_the_step_from_prefill_to_decode_is_no_move(told: Told) -> None:
    told.hand_off("r1", "a", "b", 1.0, HandoffWhy.PREFILL_DONE)
    told.hand_off("r1", "b", "a", 2.0)
    assert (told.seen.moves, told.counts) == (1, (0, 0))


def test_what_is_over_is_forgotten(told: Told) -> None:
    told.resend("r1", "b", 1.0)
    told.end("r1")
    told.send("r1", "b", 2.0)
    told.lose("a")
    told.resend("r1", "a", 3.0)
    assert told.counts == (0, 0)


def seen_in(rescheduling: str) -> Oscillations:
    """In a minute of Llumnix' traffic."""
    seen = Oscillations()
    rows = test_llumnix.rows(1, n=800)
    simulate(test_llumnix.fleet(rescheduling), rows, seed=1, observers=[seen.observe])
    return seen


def test_moves_at_random_oscillate_and_ours_do_not() -> None:
    at_random, ours = seen_in("random-moves"), seen_in("predicted-gain")
    assert ours.moves > 0
    assert ours.counts == {"request": 0, "pair": 0}
    assert min(at_random.counts.values()) > at_random.moves / 5
