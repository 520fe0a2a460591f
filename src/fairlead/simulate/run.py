"""One simulation from end to end: a fleet file and a trace in, figures out."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from fairlead.fleet.config import FleetConfig
from fairlead.simulate.faults import Faults
from fairlead.simulate.faulty import FaultySimulator
from fairlead.simulate.simulator import Observer, Simulator
from fairlead.simulate.timeline import Timeline
from fairlead.workload.arrivals import Arrivals
from fairlead.workload.records import Columns
from fairlead.workload.summary import RunFacts, Summary
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
    rows: Iterable[TraceRow] | Arrivals,
    *,
    seed: int = 0,
    trace: str = "",
    fleet: str = "",
    warmup_s: float = 0.0,
    faults: Faults | None = None,
    timeline_s: float | None = None,
    observers: Sequence[Observer] = (),
    progress: Callable[[int], None] | None = None,
) -> Simulated:
    """Plays the rows against the fleet in virtual time.

    With `faults`, things go wrong (`read_faults` reads a file of them). `timeline_s` samples every
    instance so often. `progress` hears, now and then, how many requests have arrived.
    """
    begun_s = time.perf_counter()
    simulator: Simulator
    if faults is None:
        simulator = Simulator(config, seed, observers=observers, timeline_s=timeline_s)
    else:
        simulator = FaultySimulator(
            config, seed, faults, observers=observers, timeline_s=timeline_s
        )
    simulator.records.warmup_s = warmup_s
    with _few_collections():
        simulator.run(rows, progress)
    facts = RunFacts(
        trace=trace,
        fleet=fleet,
        policy=config.policy.names(),
        seed=seed,
        wall_s=time.perf_counter() - begun_s,
        **simulator.facts(),
    )
    summary = simulator.records.summary(facts, simulator.gaps.percentiles())
    return Simulated(summary, simulator.records.columns(), simulator.timeline)


@contextmanager
def _few_collections() -> Iterator[None]:
    """A run makes many objects and no cycles: looking for cycles as often as usual is a waste."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
