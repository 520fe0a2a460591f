"""Spans of requests and their stages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="OpenTelemetry is not installed: fairlead[otel]")

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from fairlead.model import HandedOff, HandoffWhy, InstanceId, Objective, RequestId, Tick
from fairlead.observe.traces import Traces
from tests.strategies import request, spec
from tests.world import World, fleet

EPOCH_S = 1000.0
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Traced(World):
    def __init__(self, *names: str) -> None:
        super().__init__(fleet())
        self.exporter = InMemorySpanExporter()
        self.traces = Traces(SimpleSpanProcessor(self.exporter), EPOCH_S)
        for name in names:
            self.up(spec(name))

    def tell(self, event: Any) -> list[Any]:
        actions = super().tell(event)
        self.traces.observe(event, actions, self.now)
        return actions

    def steps(self, instance: str, n: int) -> None:
        for _ in range(n):
            self.now += 1.0
            self.deliver_to_instance(instance)
            self.begin_step(instance)
            self.end_step(instance)
            self.deliver_to_fleet(instance)

    def spans(self) -> list[ReadableSpan]:
        """Of what has ended, in order of their beginning."""
        found = self.exporter.get_finished_spans()
        return sorted(found, key=lambda span: (span.start_time, span.name != "request"))


def shape(spans: list[ReadableSpan]) -> list[tuple[str, float, float]]:
    """Name, beginning and end on the world's clock."""
    return [
        (s.name, (s.start_time or 0) / 1e9 - EPOCH_S, (s.end_time or 0) / 1e9 - EPOCH_S)
        for s in spans
    ]


@pytest.fixture
def w() -> Iterator[Traced]:
    world = Traced("a", "b")
    yield world
    world.traces.close()


def test_a_request_and_its_stages_are_spans_of_one_trace(w: Traced) -> None:
    w.now = 2.0
    w.arrive(
        request("r1", out=3, arrival_s=1.5, tenant="alice", objective=Objective("x", ttft_s=9))
    )
    w.steps("a", 3)
    w.deliver_to_fleet("a")
    spans = w.spans()
    assert shape(spans) == [
        ("request", 1.5, 5.0),
        ("queued", 1.5, 2.0),
        ("prefill", 2.0, 3.0),
        ("decode", 3.0, 5.0),
    ]
    root = spans[0]
    assert root.context is not None
    assert {s.parent.span_id for s in spans[1:] if s.parent} == {root.context.span_id}
    assert root.parent is None
    facts = dict(root.attributes or {})
    assert facts["fairlead.outcome"] == "finished"
    assert facts["gen_ai.usage.output_tokens"] == 3
    assert facts["fairlead.tenant"] == "alice"
    assert dict(spans[2].attributes or {})["fairlead.instance"] == "a"


def test_a_client_with_a_trace_of_its_own_finds_the_request_in_it(w: Traced) -> None:
    r1 = request("r1", out=1)
    w.traces.link([r1], PARENT)
    w.arrive(r1)
    w.settle()
    root = w.spans()[0]
    assert root.parent is not None
    assert f"{root.parent.span_id:016x}" == "b7ad6b7169203331"
    assert all(f"{s.context.trace_id:032x}" == PARENT[3:35] for s in w.spans() if s.context)


@pytest.mark.parametrize("header", ["", "nonsense", "00-0-0-01", PARENT[:-2] + "00"])
def test_a_broken_or_unsampled_parent_breaks_nothing(w: Traced, header: str) -> None:
    r1 = request("r1", out=1)
    w.traces.link([r1], header)
    w.arrive(r1)
    w.settle()
    assert len(w.spans()) == (0 if header.endswith("00") else 4)


def test_a_lost_instance_is_a_failed_stage_and_a_new_one(w: Traced) -> None:
    w.arrive(request("r1", out=6))
    w.steps("a", 3)
    w.kill("a")
    w.settle()
    spans = w.spans()
    assert [s.name for s in spans] == [
        "request", "queued", "prefill", "decode", "queued", "prefill", "decode",
    ]  # fmt: skip
    assert spans[3].status.status_code is StatusCode.ERROR
    assert spans[3].status.description == "lost: killed"
    assert dict(spans[6].attributes or {}) == {"fairlead.instance": "b", "fairlead.position": 3}


def test_a_move_is_a_span_that_ends_where_it_goes_on(w: Traced) -> None:
    w.arrive(request("r1", out=6))
    w.steps("a", 2)
    tracked = w.fleet.requests[RequestId("r1")]
    to = w.fleet.instances[InstanceId("b")]
    move = w.fleet.handoffs.begin(tracked, to, HandoffWhy.REBALANCE, w.now)
    w.traces.observe(Tick(), [move], w.now)
    w.now += 1.0
    w.traces.observe(HandedOff(InstanceId("a"), RequestId("r1"), 1, done=False), [], w.now)
    (span,) = w.spans()[-1:]
    assert shape([span]) == [("hand-off", 2.0, 3.0)]
    assert span.status.status_code is StatusCode.ERROR
    assert dict(span.attributes or {})["fairlead.target"] == "b"


def test_a_rejection_is_an_error_with_its_reason(w: Traced) -> None:
    w.arrive(request("r1", model="unknown"))
    root = w.spans()[0]
    assert (root.status.status_code, root.status.description) == (StatusCode.ERROR, "no-instance")


def test_nothing_is_kept_of_what_has_ended(w: Traced) -> None:
    for i in range(20):
        w.arrive(request(f"r{i}", prompt=2, out=2))
    w.cancel("r3")
    w.settle()
    assert w.traces._traced == {}
    assert w.traces._parents == {}
