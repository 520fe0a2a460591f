"""What Prometheus is told of moves and of predictions."""

from __future__ import annotations

from fairlead.model import (
    Arrived,
    Complete,
    CompleteWhy,
    Deliver,
    Dispatch,
    DispatchWhy,
    InstanceDown,
    InstanceId,
    InstanceUp,
    Leaving,
    Outcome,
    Produced,
    RequestId,
    Stop,
    Tick,
)
from fairlead.observe.metrics import Metrics
from tests.strategies import request, spec
from tests.world import World, fleet


class Told:
    """A request of which this was predicted."""

    def __init__(self, ttft_s: float | None, e2e_s: float | None) -> None:
        self.predicted_ttft_s = ttft_s
        self.predicted_e2e_s = e2e_s


def lines(metrics: Metrics) -> list[str]:
    return metrics.exposition().decode().splitlines()


def answered(told: Told | None) -> list[str]:
    """A request that is dispatched, says its first token after 2 s, and ends after 5."""
    id = RequestId("r1")
    metrics = Metrics({} if told is None else {id: told})
    dispatch = Dispatch(InstanceId("a"), request("r1"), 1, (), DispatchWhy.ROUTED)
    metrics.observe(Arrived(request("r1")), [dispatch], 0.0)
    metrics.observe(Tick(), [Deliver([Produced(id, 1, 0, (7,))])], 2.0)
    metrics.observe(Tick(), [Deliver([Produced(id, 1, 1, (8,))])], 4.0)
    metrics.observe(Tick(), [Complete(id, Outcome.FINISHED, None, CompleteWhy.ENDED)], 5.0)
    return lines(metrics)


def error(of: str, was: str, field: str) -> str:
    return f'fairlead_prediction_error_seconds_{field}{{of="{of}",was="{was}"}}'


def test_a_prediction_that_was_too_short_and_one_that_was_too_long() -> None:
    found = answered(Told(0.5, 25.0))
    assert f"{error('ttft', 'short', 'sum')} 1.5" in found
    assert f"{error('ttft', 'short', 'count')} 1.0" in found
    assert f"{error('ttft', 'long', 'count')} 0.0" in found
    assert f"{error('e2e', 'long', 'sum')} 20.0" in found
    assert 'fairlead_prediction_error_seconds_bucket{le="1.0",of="ttft",was="short"} 0.0' in found
    assert 'fairlead_prediction_error_seconds_bucket{le="3.0",of="ttft",was="short"} 1.0' in found


def test_what_was_not_predicted_is_no_error() -> None:
    for told in (None, Told(None, None)):
        found = answered(told)
        assert f"{error('ttft', 'short', 'count')} 0.0" in found
        assert f"{error('ttft', 'long', 'count')} 0.0" in found


def test_the_fleet_itself_says_what_it_predicted() -> None:
    world = World(fleet())
    metrics = Metrics(world.fleet.requests)
    seen = 0

    def show() -> None:
        nonlocal seen
        for now, event, actions in world.log[seen:]:
            metrics.observe(event, actions, now)
        seen = len(world.log)

    world.up(spec("a"))
    world.arrive(request("r1"))
    show()
    world.settle()
    show()
    counts = [float(line.split()[-1]) for line in lines(metrics) if "error_seconds_count" in line]
    assert sum(counts) == 2  # The first of every few is predicted: its first token, and its end.


def test_a_move_that_is_taken_back_is_counted() -> None:
    metrics = Metrics()
    for i, (name, why) in enumerate(
        [("a", DispatchWhy.ROUTED), ("b", DispatchWhy.MOVED), ("a", DispatchWhy.MOVED)]
    ):
        dispatch = Dispatch(InstanceId(name), request("r1"), i + 1, (), why)
        metrics.observe(Tick(), [dispatch], float(i))
    found = lines(metrics)
    assert 'fairlead_oscillations_total{of="request"} 1.0' in found
    assert 'fairlead_oscillations_total{of="pair"} 1.0' in found


def test_who_was_told_to_end_or_said_so_did_not_die() -> None:
    metrics = Metrics()
    a, b = InstanceId("a"), InstanceId("b")
    for id in (a, b):
        metrics.observe(InstanceUp(spec(id)), [], 0.0)
    metrics.observe(Tick(), [Stop(a)], 1.0)
    metrics.observe(Leaving(b), [], 1.0)
    for id in (a, b):
        metrics.observe(InstanceDown(id), [], 2.0)
    assert "fairlead_instance_deaths_total 0.0" in lines(metrics)
    metrics.observe(InstanceUp(spec(a)), [], 3.0)
    metrics.observe(InstanceDown(a), [], 4.0)
    assert "fairlead_instance_deaths_total 1.0" in lines(metrics)
