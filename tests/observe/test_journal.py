"""What an operator is told: few lines, and never without bound."""

from __future__ import annotations

from typing import Any

from fairlead.model import (
    Complete,
    CompleteWhy,
    Draining,
    HandedOff,
    InstanceDown,
    InstanceId,
    InstanceUp,
    Leaving,
    Outcome,
    Reject,
    RejectWhy,
    RequestId,
    Scale,
    Stop,
    Tick,
)
from fairlead.observe.journal import LINES_PER_S, Journal
from tests.strategies import request, spec
from tests.world import World, fleet


class Heard:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def __call__(self, level: str, event: str, **facts: Any) -> None:
        self.lines.append((level, event, facts))

    @property
    def events(self) -> list[str]:
        return [event for _, event, _ in self.lines]


def test_instances_and_what_went_wrong_are_told_and_nothing_else() -> None:
    w = World(fleet())
    w.up(spec("a"))
    w.arrive(request("r1"))
    w.settle()
    w.kill("a")
    heard = Heard()
    journal = Journal(heard)
    for now, event, actions in w.log:
        journal.observe(event, actions, now)
    assert heard.events == ["instance.up", "instance.down"]
    assert heard.lines[1] == ("warning", "instance.down", {"instance": "a", "why": "killed"})


def test_that_an_instance_ends_which_was_to_end_is_no_warning() -> None:
    heard = Heard()
    journal = Journal(heard)
    a, b = InstanceId("a"), InstanceId("b")
    journal.observe(Leaving(a), [Stop(b)], 0.0)
    for id in (a, b):
        journal.observe(InstanceDown(id, "gone"), [], 1.0)
    assert [level for level, event, _ in heard.lines if event == "instance.down"] == ["info"] * 2
    journal.observe(InstanceUp(spec("b")), [], 2.0)
    journal.observe(InstanceDown(b, "gone"), [], 3.0)
    assert heard.lines[-1][0] == "warning"


def test_failures_and_decisions_are_told_with_their_reasons() -> None:
    heard = Heard()
    journal = Journal(heard)
    failed = Complete(RequestId("r1"), Outcome.FAILED, None, CompleteWhy.INSTANCES_LOST)
    gone = Complete(RequestId("r2"), Outcome.CANCELLED, None, CompleteWhy.CLIENT_LEFT)
    journal.observe(Tick(), [failed, gone, Scale("p", 3)], 0.0)
    journal.observe(HandedOff(InstanceId("a"), RequestId("r3"), 1, done=False), [], 0.0)
    journal.observe(Draining(), [], 0.0)
    assert heard.lines == [
        ("error", "request.failed", {"request": "r1", "why": "instances-lost"}),
        ("info", "pool.scale", {"pool": "p", "instances": 3}),
        ("warning", "handoff.failed", {"request": "r3", "instance": "a"}),
        ("info", "fleet.draining", {}),
    ]


def test_a_flood_of_rejections_is_a_few_lines_and_a_number() -> None:
    heard = Heard()
    journal = Journal(heard)
    rejects = [Reject(RequestId(f"r{i}"), RejectWhy.QUEUE_FULL, 1.0) for i in range(1000)]
    journal.observe(Tick(), rejects, 5.2)
    assert heard.events == ["request.rejected"] * LINES_PER_S
    journal.observe(Tick(), [], 6.0)
    left_out = {"of": "request.rejected", "lines": 1000 - LINES_PER_S}
    assert heard.lines[-1] == ("warning", "log.left-out", left_out)
    journal.close()
    assert len(heard.lines) == LINES_PER_S + 1
