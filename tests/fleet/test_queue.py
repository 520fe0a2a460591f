"""The fleet's queue: who waits there goes to the first instance that has room for it."""

from __future__ import annotations

from fairlead.model import (
    Complete,
    CompleteWhy,
    Dispatch,
    DispatchWhy,
    InstanceId,
    Outcome,
    Produced,
    Refused,
    RefuseWhy,
    Reject,
    RejectWhy,
    RequestId,
    Tick,
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


def test_what_an_instance_fails_at_goes_elsewhere_but_not_at_once_to_the_same() -> None:
    w = World(fleet(max_deaths=2))
    w.up(spec("a"))
    w.arrive(request(R1))
    w.tell(Tokens(A, [Produced(R1, 1, 0, [5])]))
    assert w.tell(Refused(A, R1, 1, RefuseWhy.FAILED)) == []
    (again,) = w.tell(Tick())
    assert isinstance(again, Dispatch)
    assert (again.instance, again.produced) == (A, (5,))
    w.up(spec("b"))
    assert dispatches(w.tell(Refused(A, R1, 2, RefuseWhy.FAILED))) == [(R1, B)]
    (end,) = w.tell(Refused(B, R1, 3, RefuseWhy.FAILED, "out of memory"))
    assert isinstance(end, Complete)
    assert (end.why, end.said) == (CompleteWhy.INSTANCES_LOST, "out of memory")


def test_what_no_engine_can_do_is_rejected_in_the_last_ones_words() -> None:
    w = World(fleet())
    w.up(spec("a"))
    w.up(spec("b"))
    w.arrive(request(R1))
    assert dispatches(w.tell(Refused(A, R1, 1, RefuseWhy.UNSUPPORTED, "no"))) == [(R1, B)]
    (end,) = w.tell(Refused(B, R1, 2, RefuseWhy.UNSUPPORTED, "never"))
    assert end == Reject(R1, RejectWhy.UNSUPPORTED, None, "never")


def test_an_answer_that_nobody_can_go_on_with_ends_and_its_client_is_told() -> None:
    w = World(fleet())
    w.up(spec("a"))
    w.arrive(request(R1))
    w.tell(Tokens(A, [Produced(R1, 1, 0, [5])]))
    w.up(spec("b"))
    assert dispatches(w.kill(A)) == [(R1, B)]
    (end,) = w.tell(Refused(B, R1, 2, RefuseWhy.CANNOT_GO_ON))
    assert isinstance(end, Complete)
    assert (end.outcome, end.why) == (Outcome.FAILED, CompleteWhy.CANNOT_GO_ON)


def test_one_that_is_refused_to_and_fro_does_not_wait_forever() -> None:
    w = World(fleet(max_queued_s=10.0))
    w.up(spec("a"))
    w.arrive(request(R1))
    attempt = 1
    while R1 not in w.ended:
        assert w.now < 20.0, "it still goes to and fro"
        w.tell(Refused(A, R1, attempt, RefuseWhy.QUEUE_FULL))
        w.now += 1.0
        attempt += len(dispatches(w.tell(Tick())))
    assert w.ended[R1].why is RejectWhy.WAITED_TOO_LONG
