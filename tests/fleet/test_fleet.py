"""The Fleet, event by event, and whole fleets under random faults."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.model import (
    Cancel,
    CancelWhy,
    Complete,
    CompleteWhy,
    Deliver,
    Dispatch,
    DispatchWhy,
    Draining,
    Finished,
    FinishReason,
    InstanceId,
    Objective,
    Outcome,
    Produced,
    Refused,
    RefuseWhy,
    Reject,
    RejectWhy,
    Reported,
    Request,
    RequestId,
    Tick,
    Tokens,
)
from tests.strategies import ADMISSION, BATCHING, ROUTING, request, request_lists, spec
from tests.world import World, fleet

ACTS = (
    *("arrive", "in", "out", "begin", "end", "in", "out", "begin", "end"),
    *("kill", "up", "cancel", "report", "lose-in", "lose-out", "double", "tick"),
)
"""What may happen next; the ordinary things more often."""
A, B, R1 = InstanceId("a"), InstanceId("b"), RequestId("r1")


def world(*names: str, **options: object) -> World:
    the_world = World(fleet(**options))  # type: ignore[arg-type]
    for name in names:
        the_world.up(spec(name))
    return the_world


def tokens(instance: InstanceId, start: int, ids: list[int], attempt: int = 1) -> Tokens:
    return Tokens(instance, [Produced(R1, attempt, start, ids)])


def test_a_request_is_dispatched_delivered_and_completed() -> None:
    w = world("a")
    one = request("r1")
    (dispatch,) = w.arrive(one)
    assert dispatch == Dispatch(A, one, 1, (), DispatchWhy.ROUTED)
    (deliver,) = w.tell(tokens(A, 0, [5]))
    assert isinstance(deliver, Deliver)
    (end,) = w.tell(Finished(A, R1, 1, FinishReason.STOP, 4))
    assert end == Complete(R1, Outcome.FINISHED, FinishReason.STOP, CompleteWhy.ENDED, 4)
    assert not w.fleet.requests


def test_when_an_instance_dies_its_streams_go_on_at_the_next_token() -> None:
    w = world("a", "b")
    one = request("r1")
    w.arrive(one)
    w.tell(tokens(A, 0, [5]))
    w.tell(tokens(A, 1, [6]))
    (again,) = w.kill("a")
    assert again == Dispatch(B, one, 2, (5, 6), DispatchWhy.INSTANCE_LOST)


def test_tokens_of_a_void_attempt_are_not_delivered() -> None:
    w = world("a", "b")
    w.arrive(request("r1"))
    w.tell(tokens(A, 0, [5]))
    w.kill("a")
    w.up(spec("a", incarnation="a-2"))
    assert w.tell(tokens(A, 1, [6], attempt=1)) == []
    assert w.tell(Finished(A, R1, 1, FinishReason.STOP)) == []
    (deliver,) = w.tell(tokens(B, 1, [6], attempt=2))
    assert isinstance(deliver, Deliver)


def test_doubled_tokens_are_delivered_once() -> None:
    w = world("a")
    w.arrive(request("r1"))
    w.tell(tokens(A, 0, [5]))
    assert w.tell(tokens(A, 0, [5])) == []


def test_a_gap_in_the_tokens_starts_a_new_attempt() -> None:
    """Tokens that were lost on the way cannot be sent again; another attempt makes them again."""
    w = world("a", "b")
    w.arrive(request("r1"))
    w.tell(tokens(A, 0, [5]))
    cancel, again = w.tell(tokens(A, 2, [7]))
    assert cancel == Cancel(A, R1, 1, CancelWhy.SUPERSEDED)
    assert isinstance(again, Dispatch)
    assert again.produced == (5,)


def test_the_last_token_counts_even_if_the_word_finished_was_lost() -> None:
    w = world("a")
    w.arrive(request("r1", out=2))
    w.tell(tokens(A, 0, [5, 6]))
    (end,) = w.kill("a")
    assert isinstance(end, Complete)
    assert end.reason is FinishReason.LENGTH


def test_without_an_instance_requests_wait_and_go_to_the_first_that_comes() -> None:
    w = world()
    assert w.arrive(request("r1")) == []
    (dispatch,) = w.up(spec("a"))
    assert isinstance(dispatch, Dispatch)
    assert dispatch.why is DispatchWhy.QUEUED


def test_one_that_is_mid_stream_overtakes_the_queue() -> None:
    w = world("a")
    w.arrive(request("r1"))
    w.tell(tokens(A, 0, [5]))
    w.kill("a")
    w.arrive(request("r2"))
    dispatches = w.up(spec("b"))
    assert [action.request.id for action in dispatches] == ["r1", "r2"]  # type: ignore[union-attr]


def test_a_full_queue_rejects_with_a_time_to_retry() -> None:
    w = world(max_queued=1)
    w.arrive(request("r1"))
    (reject,) = w.arrive(request("r2"))
    assert isinstance(reject, Reject)
    assert reject.why is RejectWhy.QUEUE_FULL
    assert reject.retry_after_s is not None
    assert reject.retry_after_s > 0


def test_who_waits_too_long_is_rejected_or_failed_if_it_streamed() -> None:
    w = world("a", max_queued_s=5.0)
    w.arrive(request("r1"))
    w.tell(tokens(A, 0, [5]))
    w.kill("a")
    w.arrive(request("r2"))
    w.now = 6.0
    ends = {action.request: action for action in w.tell(Tick())}  # type: ignore[union-attr]
    assert ends[RequestId("r1")].why is CompleteWhy.NO_INSTANCE_LEFT  # type: ignore[union-attr]
    assert ends[RequestId("r2")].why is RejectWhy.WAITED_TOO_LONG  # type: ignore[union-attr]


def test_a_refused_request_is_tried_elsewhere() -> None:
    w = world("a", "b")
    w.arrive(request("r1"))
    (again,) = w.tell(Refused(A, R1, 1, RefuseWhy.QUEUE_FULL))
    assert isinstance(again, Dispatch)
    assert (again.instance, again.why) == (B, DispatchWhy.REFUSED_ELSEWHERE)


def test_a_draining_instance_gets_nothing_more() -> None:
    w = world("a", "b")
    w.arrive(request("r1"))
    w.tell(Refused(A, R1, 1, RefuseWhy.DRAINING))
    for i in range(2, 5):
        (dispatch,) = w.arrive(request(f"r{i}"))
        assert isinstance(dispatch, Dispatch)
        assert dispatch.instance == B


def test_what_fits_nowhere_is_rejected_for_good() -> None:
    w = world("a")
    w.arrive(request("r1"))
    assert w.tell(Refused(A, R1, 1, RefuseWhy.TOO_LONG)) == [Reject(R1, RejectWhy.TOO_LONG, None)]


def test_a_request_that_loses_one_instance_after_the_other_is_given_up() -> None:
    w = world("a", max_deaths=1)
    w.arrive(request("r1"))
    w.kill("a")
    w.up(spec("a", incarnation="a-2"))
    (end,) = w.kill("a")
    assert isinstance(end, Complete)
    assert (end.outcome, end.why) == (Outcome.FAILED, CompleteWhy.INSTANCES_LOST)


def test_a_client_that_leaves_frees_its_instance() -> None:
    w = world("a")
    w.arrive(request("r1"))
    cancel, end = w.cancel("r1")
    assert cancel == Cancel(A, R1, 1, CancelWhy.CLIENT_LEFT)
    assert isinstance(end, Complete)
    assert end.outcome is Outcome.CANCELLED
    assert w.cancel("r1") == []


def test_a_dispatch_that_reports_never_show_is_sent_again() -> None:
    w = world("a", lost_after_s=2.0)
    w.arrive(request("r1"))
    w.to_instance["a"].clear()  # lost on the way
    w.now = 1.0
    w.report("a")
    w.deliver_to_fleet("a")
    assert w.fleet.requests[R1].attempt == 1, "too early to say"
    w.now = 3.0
    w.report("a")
    w.deliver_to_fleet("a")
    assert w.fleet.requests[R1].attempt == 2
    w.settle()
    w.check_streams([request("r1")])


def test_a_sequence_that_the_fleet_does_not_know_is_cancelled() -> None:
    w = world("a")
    w.instances["a"].submit(request("ghost"), 0.0)
    (cancel,) = w.tell(Reported(w.instances["a"].report(0.0)))
    assert cancel == Cancel(A, RequestId("ghost"), 1, CancelWhy.SUPERSEDED)


def test_an_older_report_is_ignored() -> None:
    w = world("a")
    old = w.instances["a"].report(1.0)
    w.tell(Reported(w.instances["a"].report(2.0)))
    w.arrive(request("r1"))
    w.tell(Reported(old))
    assert w.fleet.instances[A].report is not None
    assert w.fleet.instances[A].report.as_of_s == 2.0


def test_a_draining_fleet_takes_nothing_new_and_finishes_what_it_has() -> None:
    w = world("a")
    w.arrive(request("r1"))
    w.tell(Draining())
    assert w.arrive(request("r2")) == [Reject(RequestId("r2"), RejectWhy.DRAINING, None)]
    w.settle()
    w.check_streams([request("r1"), request("r2")])


def test_a_restarted_instance_replaces_its_former_self() -> None:
    w = world("a")
    w.arrive(request("r1"))
    (again,) = w.up(spec("a", incarnation="a-2"))
    assert isinstance(again, Dispatch)
    assert again.attempt == 2


def test_the_shadow_knows_what_was_sent_before_any_report_does() -> None:
    """Two requests in one instant do not herd: the second sees the first."""
    w = world("a", "b", routing="least-load")
    first, second = w.arrive(request("r1"))[0], w.arrive(request("r2"))[0]
    assert isinstance(first, Dispatch)
    assert isinstance(second, Dispatch)
    assert first.instance != second.instance


def test_the_shadow_works_off_its_backlog_between_reports() -> None:
    w = world("a")
    w.arrive(request("r1", prompt=100))
    shadow = w.fleet.instances[A]
    assert shadow.queued_tokens == 100
    w.fleet.handle(Tick(), 0.005)
    assert 1 < shadow.queued_tokens < 100


def test_a_cached_prefix_shortens_the_predicted_first_token() -> None:
    w = world("a", "b", routing="prefix-load")
    prompt = list(range(80))
    (first,) = w.arrive(request("r1", prompt))
    w.settle()
    (second,) = w.arrive(request("r2", [*prompt[:60], 1, 2, 3]))
    assert isinstance(first, Dispatch)
    assert isinstance(second, Dispatch)
    assert second.instance == first.instance
    other = w.fleet.instances[A if first.instance == B else B]
    here = w.fleet.instances[first.instance]
    assert here.cached_tokens(second.request) == 60
    assert here.predicted_ttft_s(request("r3", prompt)) < other.predicted_ttft_s(
        request("r3", prompt)
    )


def test_predicted_admission_rejects_only_what_would_be_late_everywhere() -> None:
    w = world("a", admission="predicted")
    tight, loose = Objective("t", ttft_s=0.02), Objective("l", ttft_s=10.0)
    assert isinstance(w.arrive(request("r1", 50, objective=tight))[0], Dispatch)
    (reject,) = w.arrive(request("r2", 200, objective=tight))
    assert isinstance(reject, Reject)
    assert reject.why is RejectWhy.NO_HEADROOM
    assert reject.retry_after_s == 1.0
    assert isinstance(w.arrive(request("r3", 200, objective=loose))[0], Dispatch)
    assert isinstance(w.arrive(request("r4", 200))[0], Dispatch), "batch is never rejected"


@pytest.mark.parametrize("routing", ROUTING)
@given(data=st.data(), requests=request_lists(max_size=16))
@settings(max_examples=40, deadline=None)
def test_whatever_dies_every_stream_is_whole(
    routing: str, data: st.DataObject, requests: list[Request]
) -> None:
    """Safety under faults, then everything heals and all requests end and all blocks come home."""
    admission = data.draw(st.sampled_from(ADMISSION))
    w = World(fleet(routing, admission, max_deaths=50), data.draw(st.sampled_from(BATCHING)))
    todo, incarnations = list(requests), 0
    for name in ("a", "b"):
        w.up(spec(name, n_blocks=40, max_waiting=data.draw(st.integers(1, 4))))
    for _ in range(data.draw(st.integers(0, 60))):
        w.now += data.draw(st.sampled_from([0.0, 0.001, 0.05]))
        what = data.draw(st.sampled_from(ACTS))
        up = list(w.instances)
        id = data.draw(st.sampled_from(up)) if up else None
        if what == "arrive" and todo:
            w.arrive(todo.pop(0))
        elif what == "up" and len(up) < 2:
            incarnations += 1
            name = "b" if "a" in up else "a"
            w.up(spec(name, n_blocks=40, incarnation=f"{name}-x{incarnations}"))
        elif what == "cancel" and w.fleet.requests:
            w.cancel(data.draw(st.sampled_from(sorted(w.fleet.requests))))
        elif what == "tick":
            w.tell(Tick())
        elif id is None:
            continue
        elif what == "kill":
            w.kill(id)
        elif what == "report":
            w.report(id)
        elif what == "in":
            w.deliver_to_instance(id)
        elif what == "out":
            w.deliver_to_fleet(id)
        elif what == "begin":
            w.begin_step(id)
        elif what == "end":
            w.end_step(id)
        elif what == "lose-in" and w.to_instance[id]:
            w.to_instance[id].popleft()
        elif what == "lose-out" and w.to_fleet[id]:
            w.to_fleet[id].popleft()
        elif what == "double" and w.to_fleet[id]:
            w.to_fleet[id].append(w.to_fleet[id][0])
    if not w.instances:
        w.up(spec("a", n_blocks=40, incarnation="a-last"))
    for one in todo:
        w.arrive(one)
    w.heal()
    for id in list(w.instances):  # A lost cancel is noticed by the next report.
        w.report(id)
    w.settle()
    w.check_streams(requests)
    assert w.checker.open == 0
