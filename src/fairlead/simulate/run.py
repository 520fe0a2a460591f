"""One simulation from end to end: a fleet file and a trace in, figures out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from fairlead.fleet.config import FleetConfig
from fairlead.simulate.simulator import Observer, Simulator
from fairlead.simulate.timeline import Timeline
from fairlead.workload.records import Columns
from fairlead.workload.summary import RunFacts, Summary, summarize
from fairlead.workload.trace import TraceRow


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a run brought."""

    summary: Summary
    columns: Columns
    """The requests that were kept one by one: all of them, or the first many of a long run."""
    timeline: Timeline = field(default_factory=Timeline)
    """Empty unless it was asked for."""


def simulate(
    config: FleetConfig,
    rows: Iterable[TraceRow],
    *,
    seed: int = 0,
    trace: str = "",
    fleet: str = "",
    warmup_s: float = 0.0,
    timeline_s: float | None = None,
    observers: Sequence[Observer] = (),
    progress: Callable[[int], None] | None = None,
) -> Simulated:
    """Plays the rows against the fleet in virtual time.

    `timeline_s` samples every instance so often. `progress` hears, now and then, how many requests
    have arrived.
    """
    begun_s = time.perf_counter()
    simulator = Simulator(config, seed, observers=observers, timeline_s=timeline_s)
    simulator.run(rows, progress)
    facts = RunFacts(
        trace=trace,
        fleet=fleet,
        policy=config.policy.names(),
        seed=seed,
        wall_s=time.perf_counter() - begun_s,
        **simulator.facts(),
    )
    columns = simulator.records.columns()
    summary = summarize(columns, facts, itl_s=simulator.gaps.percentiles(), warmup_s=warmup_s)
    return Simulated(summary, columns, simulator.timeline)
