"""Hand-offs as the fleet decides about them, event by event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from fairlead.model import (
    Action,
    Cancel,
    CancelWhy,
    Complete,
    Deliver,
    Dispatch,
    DispatchWhy,
    Finished,
    FinishReason,
    HandedOff,
    Handoff,
    HandoffWhy,
    HostView,
    InstanceDown,
    InstanceId,
    Produced,
    Report,
    Reported,
    RequestId,
    Role,
    Tick,
    Tokens,
)
from fairlead.observe.invariants import Checker
from fairlead.policies.rescheduling import Move
from tests.strategies import request, spec
from tests.world import World, fleet

A, B, R1 = InstanceId("a"), InstanceId("b"), RequestId("r1")
HANDOFF = Handoff(A, B, R1, 1, 2, HandoffWhy.PREFILL_DONE)


def split_world() -> World:
    """`a` computes prompts, `b` decodes; r1 is on `a`."""
    world = World(fleet())
    world.up(replace(spec("a"), role=Role.PREFILL, address="a"))
    world.up(replace(spec("b"), role=Role.DECODE, address="b"))
    world.arrive(request("r1", out=8))
    return world


def moving_world() -> World:
    """The same, with the first token there and the hand-off begun."""
    world = split_world()
    assert world.tell(tokens(A, 1, 0, [5]))[1] == HANDOFF
    return world


def tokens(instance: InstanceId, attempt: int, start: int, ids: list[int]) -> Tokens:
    return Tokens(instance, [Produced(R1, attempt, start, ids)])


def delivered(actions: Sequence[Action]) -> list[tuple[int, int]]:
    """(attempt, position) of every row."""
    return [(r.attempt, r.start) for a in actions if isinstance(a, Deliver) for r in a.rows]


def test_with_its_first_token_a_request_leaves_for_where_others_decode() -> None:
    w = split_world()
    deliver, handoff = w.tell(tokens(A, 1, 0, [5]))
    assert isinstance(deliver, Deliver)
    assert handoff == HANDOFF


def test_nothing_new_is_sent_to_an_instance_that_only_decodes() -> None:
    w = split_world()
    (dispatch,) = w.arrive(request("r2"))
    assert isinstance(dispatch, Dispatch)
    assert dispatch.instance == A


def test_unless_there_is_nobody_else() -> None:
    w = split_world()
    (dispatch,) = w.kill("a")
    assert isinstance(dispatch, Dispatch)
    assert dispatch.instance == B


def test_the_source_counts_until_the_target_makes_the_next_token() -> None:
    w = moving_world()
    assert delivered(w.tell(tokens(A, 1, 1, [6]))) == [(1, 1)]
    assert delivered(w.tell(tokens(B, 2, 2, [7]))) == [(2, 2)]
    assert delivered(w.tell(tokens(A, 1, 3, [8]))) == []
    assert w.tell(HandedOff(A, R1, 1, done=True)) == []
    (end,) = w.tell(Finished(B, R1, 2, FinishReason.STOP, 0, 3))
    assert isinstance(end, Complete)


def test_what_the_target_says_too_early_waits_for_the_sources_last_tokens() -> None:
    w = moving_world()
    assert w.tell(tokens(B, 2, 2, [7])) == []
    assert w.tell(tokens(B, 2, 3, [8])) == []
    assert w.tell(Finished(B, R1, 2, FinishReason.STOP, 0, 4)) == []
    actions = w.tell(tokens(A, 1, 1, [6]))
    assert delivered(actions) == [(1, 1), (2, 2), (2, 3)]
    assert isinstance(actions[-1], Complete)


def test_once_the_source_is_done_nothing_waits_any_more() -> None:
    w = moving_world()
    assert w.tell(HandedOff(A, R1, 1, done=True)) == []
    assert delivered(w.tell(tokens(B, 2, 1, [6]))) == [(2, 1)]
    assert not w.fleet.instances[A].attempts


def test_tokens_that_the_source_lost_are_made_again() -> None:
    w = moving_world()
    w.tell(tokens(B, 2, 2, [7]))
    cancel, again = w.tell(HandedOff(A, R1, 1, done=True))
    assert cancel == Cancel(B, R1, 2, CancelWhy.SUPERSEDED)
    assert isinstance(again, Dispatch)
    assert (again.attempt, again.produced) == (3, (5,))
    assert again.why is DispatchWhy.LOST_ON_THE_WAY


def test_a_hand_off_that_comes_to_nothing_changes_nothing_and_is_tried_again_with_time() -> None:
    w = moving_world()
    (cancel,) = w.tell(HandedOff(A, R1, 1, done=False))
    assert cancel == Cancel(B, R1, 2, CancelWhy.SUPERSEDED)
    assert not w.fleet.instances[B].attempts
    assert delivered(w.tell(tokens(A, 1, 1, [6]))) == [(1, 1)]
    assert w.tell(Tick()) == [Handoff(A, B, R1, 1, 3, HandoffWhy.PREFILL_DONE)]


def test_where_the_source_dies_another_attempt_goes_on() -> None:
    w = moving_world()
    cancel, again = w.tell(InstanceDown(A))
    assert cancel == Cancel(B, R1, 2, CancelWhy.SUPERSEDED)
    assert isinstance(again, Dispatch)
    assert (again.instance, again.attempt, again.produced) == (B, 3, (5,))


def test_where_the_target_dies_the_source_goes_on() -> None:
    w = moving_world()
    assert w.tell(InstanceDown(B)) == []
    assert delivered(w.tell(tokens(A, 1, 1, [6]))) == [(1, 1)]


def test_one_that_ends_before_it_has_moved_is_not_expected_any_more() -> None:
    w = moving_world()
    complete, cancel = w.tell(Finished(A, R1, 1, FinishReason.STOP, 0, 1))
    assert isinstance(complete, Complete)
    assert cancel == Cancel(B, R1, 2, CancelWhy.SUPERSEDED)


def report(world: World, *inside: tuple[RequestId, int]) -> Report:
    return Report(B, world.now, 100, 0, 0, 0, 0, 0, inside)


def test_what_the_target_has_reserved_is_left_alone_and_later_cancelled() -> None:
    w = moving_world()
    assert w.tell(Reported(report(w, (R1, 2)))) == []
    w.tell(HandedOff(A, R1, 1, done=False))
    cancel, *_ = w.tell(Reported(report(w, (R1, 2))))
    assert cancel == Cancel(B, R1, 2, CancelWhy.SUPERSEDED)


class Proposes:
    """A rescheduling policy that says what it was told to."""

    period_s = 0.0

    def __init__(self, *moves: Move) -> None:
        self.moves: Sequence[Move] = moves

    def propose(self, hosts: Sequence[HostView], now: float) -> Sequence[Move]:
        moves, self.moves = self.moves, ()
        return moves


def proposed(*moves: Move, begun: bool = True, **limits: int) -> list[Action]:
    """What comes of these proposals where r1 is on `a`, and `b` and `c` have room."""
    world = World(fleet(rescheduling=Proposes(*moves), **limits))
    for name in "abc":
        world.up(replace(spec(name), address=name))
    world.arrive(request("r1", out=8))
    if begun:
        world.tell(tokens(A, 1, 0, [5]))
    actions: list[Action] = world.tell(Tick())
    return actions


def test_one_that_decodes_is_handed_off() -> None:
    assert proposed(Move(R1, A, B)) == [Handoff(A, B, R1, 1, 2, HandoffWhy.REBALANCE)]


def test_one_that_has_not_begun_is_sent_anew() -> None:
    cancel, dispatch = proposed(Move(R1, A, B), begun=False)
    assert cancel == Cancel(A, R1, 1, CancelWhy.SUPERSEDED)
    assert isinstance(dispatch, Dispatch)
    assert (dispatch.instance, dispatch.attempt, dispatch.why) == (B, 2, DispatchWhy.MOVED)


@pytest.mark.parametrize(
    "moves",
    [
        [Move(R1, A, A)],
        [Move(R1, B, A)],
        [Move(R1, A, InstanceId("gone"))],
        [Move(RequestId("r9"), A, B)],
    ],
)
def test_a_proposal_that_makes_no_sense_is_dropped(moves: list[Move]) -> None:
    assert proposed(*moves) == []


def test_a_request_that_is_proposed_twice_moves_once() -> None:
    assert len(proposed(Move(R1, A, B), Move(R1, A, InstanceId("c")))) == 1


def test_a_policy_that_cannot_make_up_its_mind_is_not_heard_for_ever() -> None:
    assert proposed(Move(R1, A, B), max_moves=0) == []


def test_nothing_moves_to_where_a_token_has_another_size() -> None:
    world = World(fleet(rescheduling=Proposes(Move(R1, A, B))))
    for name, size in (("a", 16), ("b", 32)):
        world.up(replace(spec(name), address=name, kv_bytes_per_token=size))
    world.arrive(request("r1", out=8))
    world.tell(tokens(A, 1, 0, [5]))
    assert world.tell(Tick()) == []


def test_the_checker_sees_two_hand_offs_at_once() -> None:
    checker = Checker()
    checker._open[R1] = 1
    checker._owners[R1], checker._attempts[R1], checker._issued[R1] = A, 1, 1
    checker._up = {A: "", B: ""}
    checker.observe(Tick(), [HANDOFF], 1.0)
    with pytest.raises(AssertionError, match="handed off twice"):
        checker.observe(Tick(), [HANDOFF], 1.0)
