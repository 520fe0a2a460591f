"""A row for each instance: what it is, how full, how well."""

from __future__ import annotations

from msgspec import Struct

from fairlead.model import Event, InstanceDown, InstanceId, Reported
from fairlead.observe.window.seen import SeenFleet, SeenInstance

SILENT_S = 2.5
"""Workers report twice a second; the gateway gives one up after ten heartbeats missed."""
SLOW = 1.5
"""Steps that take so many times as long as predicted make an instance slow."""


class InstanceRow(Struct, frozen=True, array_like=True):
    """As it goes over the wire: a list of values in this order."""

    pool: str
    model: str
    hardware: str
    role: str
    health: str
    """ok, new (it has not reported yet), slow, silent, draining"""
    kv: float
    """Blocks in use, 0 to 1."""
    cached: float
    """Blocks that hold a prefix nobody uses now, 0 to 1."""
    batch: int
    """Sequences that run."""
    most: int
    """Sequences that may run at once."""
    queue: int
    """Sequences that wait inside."""
    requests: int
    """Requests that the fleet has there, on their way too."""
    slowdown: float
    """Measured over predicted step time."""


class Instances:
    """Remembers who was heard of, and when."""

    def __init__(self, fleet: SeenFleet) -> None:
        self._fleet = fleet
        self._heard_s: dict[InstanceId, float] = {}

    def observe(self, event: Event, now: float) -> None:
        if type(event) is Reported:
            self._heard_s[event.report.instance] = now
        elif type(event) is InstanceDown:
            self._heard_s.pop(event.instance, None)

    def rows(self, now: float) -> dict[str, InstanceRow]:
        return {
            instance: self._row(instance, seen, now)
            for instance, seen in self._fleet.instances.items()
        }

    def _row(self, instance: InstanceId, seen: SeenInstance, now: float) -> InstanceRow:
        spec, report = seen.spec, seen.report
        free = spec.n_blocks if report is None else report.free_blocks
        cached = 0 if report is None else report.cached_blocks
        return InstanceRow(
            pool=spec.pool,
            model=spec.model,
            hardware=spec.hardware,
            role=seen.role.value,
            health=self._health(instance, seen, now),
            kv=round(max(1 - (free + cached) / spec.n_blocks, 0.0), 2),
            cached=round(cached / spec.n_blocks, 2),
            batch=0 if report is None else report.running,
            most=spec.max_sequences,
            queue=0 if report is None else report.waiting,
            requests=len(seen.attempts),
            slowdown=1.0 if report is None else round(report.slowdown, 2),
        )

    def _health(self, instance: InstanceId, seen: SeenInstance, now: float) -> str:
        heard_s = self._heard_s.get(instance)
        if seen.draining:
            return "draining"
        if heard_s is None or seen.report is None:
            return "new"
        if now - heard_s > SILENT_S:
            return "silent"
        return "slow" if seen.report.slowdown >= SLOW else "ok"
