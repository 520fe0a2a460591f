"""Instances that are told to stop by somebody else than the fleet, event by event."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from fairlead.fleet.pools import PoolBounds
from fairlead.model import (
    Cancel,
    Dispatch,
    DispatchWhy,
    Handoff,
    HandoffWhy,
    InstanceId,
    Leaving,
    Produced,
    RequestId,
    Resized,
    Stop,
    Tick,
    Tokens,
)
from tests.strategies import request, spec
from tests.world import World, fleet

A, B, R1 = InstanceId("a"), InstanceId("b"), RequestId("r1")


def world(names: str = "ab", **of_fleet: object) -> World:
    the_world = World(fleet(**of_fleet))
    for name in names:
        the_world.up(replace(spec(name), address=name))
    return the_world


def test_what_decodes_is_handed_off_and_what_waits_is_sent_anew() -> None:
    w = world()
    w.arrive(request("r1", out=8))
    w.tell(Tokens(A, [Produced(R1, 1, 0, [5])]))
    w.arrive(request("r2"))  # On b.
    w.arrive(request("r3"))  # On a, where it has not begun.
    actions = w.tell(Leaving(A))
    assert Handoff(A, B, R1, 1, 2, HandoffWhy.DRAIN) in actions
    (cancel,) = (action for action in actions if isinstance(action, Cancel))
    assert (cancel.instance, cancel.request) == (A, "r3")
    (dispatch,) = (action for action in actions if isinstance(action, Dispatch))
    assert (dispatch.instance, dispatch.why) == (B, DispatchWhy.MOVED)
    assert w.tell(Leaving(A)) == []
    assert w.tell(Leaving(InstanceId("nobody"))) == []


def test_nothing_new_is_sent_to_who_leaves() -> None:
    w = world()
    w.tell(Leaving(A))
    for i in range(4):
        (dispatch,) = w.arrive(request(f"r{i}"))
        assert isinstance(dispatch, Dispatch)
        assert dispatch.instance == B


def test_what_finds_no_room_stays_and_is_tried_again() -> None:
    w = world("a")
    w.arrive(request("r1", out=8))
    w.tell(Tokens(A, [Produced(R1, 1, 0, [5])]))
    assert w.tell(Leaving(A)) == []
    assert w.tell(Tick()) == []
    w.up(replace(spec("b"), address="b"))
    assert w.tell(Tick()) == [Handoff(A, B, R1, 1, 2, HandoffWhy.DRAIN)]


def test_two_that_leave_send_each_other_nothing() -> None:
    w = world()
    w.arrive(request("r1", out=8))
    w.tell(Tokens(A, [Produced(R1, 1, 0, [5])]))
    w.tell(Leaving(B))
    assert w.tell(Leaving(A)) == []


def test_who_leaves_is_the_first_of_those_that_are_too_many_and_is_not_taken_back() -> None:
    w = world("ab", pools=[(PoolBounds("p", "m", 2, 0, 9), None)])
    w.arrive(request("r1", out=8))  # On a.
    w.tell(Tokens(A, [Produced(R1, 1, 0, [5])]))
    w.tell(Leaving(A))
    assert not [a for a in w.tell(Resized("p", 1)) if isinstance(a, Stop)]
    assert w.fleet.instances[A].retiring
    assert not w.fleet.instances[B].retiring
    w.tell(Resized("p", 2))
    assert w.fleet.instances[A].retiring


def test_whenever_they_are_told_to_leave_no_stream_breaks() -> None:
    """With deliveries in any order, and whoever has left gone for good."""
    for seed in range(30):
        rng = Random(seed)
        w = world("abc")
        asked = [request(f"r{i}", out=rng.randrange(1, 12)) for i in range(12)]
        leaving = ["a", "b"]
        for i, one in enumerate(asked):
            w.arrive(one)
            if leaving and rng.random() < 0.3:
                w.tell(Leaving(InstanceId(leaving.pop())))
            for id in list(w.instances):
                step = [w.deliver_to_instance, w.begin_step, w.end_step, w.deliver_to_fleet]
                rng.choice(step)(id)
            w.now += 0.01 * (i % 3)
        w.kill("a")
        w.heal()
        w.check_streams(asked)
