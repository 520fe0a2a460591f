"""Pools grow and shrink, event by event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fairlead.fleet.pools import PoolBounds
from fairlead.model import (
    Action,
    Cancel,
    Dispatch,
    HandedOff,
    Handoff,
    HandoffWhy,
    InstanceDown,
    InstanceId,
    Produced,
    RequestId,
    RequestView,
    Resized,
    Scale,
    Stop,
    Tick,
    Tokens,
    Unplaced,
)
from fairlead.policies.scaling import PoolView
from tests.strategies import request, spec
from tests.world import World, fleet

A, B, C, R1 = InstanceId("a"), InstanceId("b"), InstanceId("c"), RequestId("r1")


class Wants:
    """A scaling policy that says what it was told to."""

    period_s = 0.0

    def __init__(self, n: int) -> None:
        self.n = n
        self.heard: list[str] = []

    def arrived(self, request: RequestView, now: float) -> None:
        self.heard.append(request.id)

    def desired(self, pool: PoolView, now: float) -> int:
        return self.n


def world(names: str, wants: Wants | None = None, least: int = 0, most: int = 9) -> World:
    bounds = PoolBounds("p", "m", len(names), least, most)
    the_world = World(fleet(pools=[(bounds, wants)]))
    for name in names:
        the_world.up(replace(spec(name), address=name))
    return the_world


def first_token(w: World, instance: InstanceId = A) -> None:
    w.tell(Tokens(instance, [Produced(R1, 1, 0, [5])]))


def only(actions: Sequence[Action], kind: type[Action]) -> list[Action]:
    return [action for action in actions if isinstance(action, kind)]


def test_a_pool_that_nobody_scales_is_left_alone() -> None:
    w = world("ab")
    w.kill("a")
    assert w.tell(Tick()) == []


def test_what_is_missing_is_asked_for_once() -> None:
    w = world("a", Wants(3))
    assert w.tell(Tick()) == [Scale("p", 3)]
    assert w.tell(Tick()) == []
    w.up(replace(spec("b"), address="b"))
    w.up(replace(spec("c"), address="c"))
    assert w.tell(Tick()) == []


def test_the_policy_keeps_to_the_bounds_and_a_person_need_not() -> None:
    w = world("a", Wants(5), most=2)
    assert w.tell(Tick()) == [Scale("p", 2)]
    assert w.tell(Resized("p", 4)) == [Scale("p", 4)]
    assert w.tell(Resized("nobody", 4)) == []


def test_the_emptiest_goes_once_what_it_had_has_moved() -> None:
    w = world("ab", Wants(2))
    w.arrive(request("r1", out=8))
    first_token(w)
    w.arrive(request("r2"))
    w.arrive(request("r3"))  # On a again: b has less.
    cancel, dispatch, stop = w.tell(Resized("p", 1))
    assert stop == Stop(B)
    assert isinstance(cancel, Cancel)
    assert (cancel.instance, cancel.request) == (B, "r2")
    assert isinstance(dispatch, Dispatch)
    assert dispatch.instance == A


def test_what_decodes_is_handed_off_and_then_the_instance_stops() -> None:
    w = world("ab", Wants(2))
    w.arrive(request("r1", out=8))
    first_token(w)
    w.arrive(request("r2"))
    w.arrive(request("r3"))
    w.arrive(request("r4"))
    w.fleet.pools["p"].policy = Wants(1)
    # b has r2 and r4, a has r1 and r3; equally many, and a comes first.
    actions = w.tell(Tick())
    assert only(actions, Handoff) == [Handoff(A, B, R1, 1, 2, HandoffWhy.DRAIN)]
    assert not only(actions, Stop)
    assert Stop(A) in w.tell(HandedOff(A, R1, 1, done=True)) + w.tell(Tick())
    w.tell(InstanceDown(A, "drained"))
    assert w.tell(Tick()) == []


def test_who_cannot_move_yet_is_tried_again() -> None:
    w = world("a", Wants(1))
    w.arrive(request("r1", out=8))
    first_token(w)
    assert w.tell(Resized("p", 0)) == []
    w.fleet.pools["p"].policy = None
    w.up(replace(spec("b", pool="q"), address="b"))
    (handoff,) = w.tell(Tick())
    assert isinstance(handoff, Handoff)
    assert handoff.target == B


def test_one_that_is_being_emptied_stays_where_more_are_wanted_again() -> None:
    w = world("ab")
    w.arrive(request("r1", out=8))
    first_token(w)
    assert w.tell(Resized("p", 1)) == [Stop(B)]  # It was empty: too late to keep it.
    w.tell(InstanceDown(B, "drained"))
    w.tell(Resized("p", 0))
    assert w.fleet.instances[A].retiring
    assert w.tell(Resized("p", 1)) == []
    assert not w.fleet.instances[A].retiring


def test_from_nothing_a_request_that_waits_brings_an_instance() -> None:
    wants = Wants(0)
    w = world("", wants)
    assert w.arrive(request("r1")) == []
    assert wants.heard == ["r1"]
    assert w.fleet.pools["p"].n_queued == 1
    wants.n = 1
    assert w.tell(Tick()) == [Scale("p", 1)]
    up = w.up(replace(spec("a"), address="a"))
    assert only(up, Dispatch)


def test_what_has_no_room_is_taken_back_before_anybody_who_lives_goes() -> None:
    w = world("ab", Wants(2))
    assert w.tell(Resized("p", 4)) == [Scale("p", 4)]
    assert w.tell(Unplaced("p", 2)) == []
    assert w.tell(Resized("p", 3)) == [Scale("p", 3)]
    assert w.tell(Resized("p", 1)) == [Scale("p", 2), Stop(A)]
    assert w.tell(Unplaced("p", 0)) == [Stop(A)]
    assert w.tell(Unplaced("nobody", 1)) == []


def test_waiting_for_room_is_no_part_of_starting() -> None:
    w = world("a", Wants(2))
    assert w.tell(Tick()) == [Scale("p", 2)]
    for wait_s, n in ((10.0, 1), (90.0, 0)):
        w.now += wait_s
        w.tell(Unplaced("p", n))
    w.now += 7.0
    w.up(replace(spec("b"), address="b"))
    assert w.fleet.pools["p"].start_up_s == 7.0
