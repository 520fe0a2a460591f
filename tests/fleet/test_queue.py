"""The fleet's queue: who waits there goes to the first instance that has room for it."""

from __future__ import annotations

from fairlead.model import (
    Dispatch,
    DispatchWhy,
    InstanceId,
    Produced,
    Refused,
    RefuseWhy,
    Reject,
    RejectWhy,
    RequestId,
    Tokens,
)
from tests.strategies import request, spec
from tests.world import World, fleet

A, B = InstanceId("a"), InstanceId("b")
R1, R2, R3 = RequestId("r1"), RequestId("r2"), RequestId("r3")


def dispatches(actions: list[object]) -> list[tuple[str, str]]:
    return [(a.request.id, a.instance) for a in actions if isinstance(a, Dispatch)]


def test_whoever_begins_to_decode_makes_room_for_one_that_waits() -> None:
    """It leaves the instance's own queue; nobody has to wait for the next report to see that."""
    w = World(fleet())
    w.up(spec("a", max_sequences=1, max_waiting=1))
    first, second, third = (dispatches(w.arrive(request(id))) for id in (R1, R2, R3))
    assert (first, second, third) == ([(R1, A)], [], [])
    actions = w.tell(Tokens(A, [Produced(R1, 1, 0, [5])]))
    assert dispatches(actions) == [(R2, A)]
    assert dispatches(w.tell(Tokens(A, [Produced(R1, 1, 1, [6])]))) == []


def test_one_that_is_too_long_for_an_instance_waits_for_a_larger_one() -> None:
    w = World(fleet())
    w.up(spec("a"))
    w.up(spec("b", max_sequences=1, max_waiting=1))
    assert dispatches(w.arrive(request(R1))) == [(R1, A)]
    assert dispatches(w.arrive(request(R2))) == [(R2, B)]
    assert dispatches(w.arrive(request(R3))) == [(R3, A)]
    assert w.tell(Refused(A, R3, 1, RefuseWhy.TOO_LONG)) == []  # b is full, but can hold it.
    (dispatch,) = w.cancel(R2)[2:]
    assert isinstance(dispatch, Dispatch)
    assert (dispatch.request.id, dispatch.instance, dispatch.why) == (R3, B, DispatchWhy.QUEUED)
    (end,) = w.tell(Refused(B, R3, 2, RefuseWhy.TOO_LONG))
    assert end == Reject(R3, RejectWhy.TOO_LONG, None)


def test_one_that_waits_for_a_larger_instance_lets_others_pass() -> None:
    w = World(fleet())
    w.up(spec("a", max_sequences=1, max_waiting=1))
    w.up(spec("b", max_sequences=1, max_waiting=1))
    w.arrive(request(R1))
    w.arrive(request(R2))
    w.arrive(request(R3))
    w.tell(Refused(A, R1, 1, RefuseWhy.TOO_LONG))
    assert dispatches(w.log[-1][2]) == [(R3, A)]
    assert dispatches(w.tell(Tokens(B, [Produced(R2, 1, 0, [5])]))) == [(R1, B)]
