"""What an operator wants to read of a fleet as it happens: key-value pairs, few and bounded.

Not every request: those are counted in the metrics and told in the event log. Requests that go
wrong are, up to a number of lines a second, and then how many more there were.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from fairlead.model import (
    Action,
    Complete,
    Draining,
    Event,
    HandedOff,
    InstanceDown,
    InstanceId,
    InstanceUp,
    Leaving,
    Outcome,
    Reject,
    Scale,
    SetRole,
    Stop,
)

LINES_PER_S = 10
"""Of one kind of event."""


class Say(Protocol):
    """Writes a line: how grave it is, what happened, and facts."""

    def __call__(self, level: str, event: str, **facts: Any) -> None: ...


class Journal:
    """An observer: show it every event with the actions that it brought."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._second = 0
        self._said: Counter[str] = Counter()
        self._to_go: set[InstanceId] = set()
        """Instances that were told to stop, or said that they would."""
        self._on: Mapping[type[Any], Callable[[Any], None]] = {
            InstanceUp: self._instance_up,
            InstanceDown: self._instance_down,
            HandedOff: self._handed_off,
            Leaving: self._leaving,
            Draining: self._draining,
            Complete: self._completed,
            Reject: self._rejected,
            Scale: self._scaled,
            SetRole: self._role,
            Stop: self._stopped,
        }

    def observe(self, event: Event, actions: Sequence[Action], now: float) -> None:
        if int(now) != self._second:
            self._begin(int(now))
        if (note := self._on.get(type(event))) is not None:
            note(event)
        for action in actions:
            if (note := self._on.get(type(action))) is not None:
                note(action)

    def close(self) -> None:
        """Says how many lines were left out lately."""
        self._begin(self._second + 1)

    def _begin(self, second: int) -> None:
        self._second = second
        said, self._said = self._said, Counter()
        for event, n in said.items():
            if n > LINES_PER_S:
                self._say("warning", "log.left-out", of=event, lines=n - LINES_PER_S)

    def _write(self, level: str, event: str, **facts: Any) -> None:
        self._said[event] += 1
        if self._said[event] <= LINES_PER_S:
            self._say(level, event, **facts)

    def _instance_up(self, event: InstanceUp) -> None:
        spec = event.spec
        facts = {"pool": spec.pool, "model": spec.model, "hardware": spec.hardware}
        self._to_go.discard(spec.id)
        self._write("info", "instance.up", instance=spec.id, **facts)

    def _instance_down(self, event: InstanceDown) -> None:
        level = "info" if event.instance in self._to_go else "warning"
        self._to_go.discard(event.instance)
        self._write(level, "instance.down", instance=event.instance, why=event.why)

    def _handed_off(self, event: HandedOff) -> None:
        if not event.done:
            facts = {"request": event.request, "instance": event.instance}
            self._write("warning", "handoff.failed", **facts)

    def _leaving(self, event: Leaving) -> None:
        self._to_go.add(event.instance)
        self._write("info", "instance.leaving", instance=event.instance)

    def _draining(self, event: Draining) -> None:
        self._write("info", "fleet.draining")

    def _completed(self, action: Complete) -> None:
        if action.outcome is Outcome.FAILED:
            self._write("error", "request.failed", request=action.request, why=action.why.value)

    def _rejected(self, action: Reject) -> None:
        facts = {"request": action.request, "why": action.why.value}
        self._write("warning", "request.rejected", **facts, retry_after_s=action.retry_after_s)

    def _scaled(self, action: Scale) -> None:
        self._write("info", "pool.scale", pool=action.pool, instances=action.n)

    def _role(self, action: SetRole) -> None:
        self._write("info", "instance.role", instance=action.instance, role=action.role.value)

    def _stopped(self, action: Stop) -> None:
        self._to_go.add(action.instance)
        self._write("info", "instance.stop", instance=action.instance)
