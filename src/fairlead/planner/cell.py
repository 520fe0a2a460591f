"""One simulation, described so that any process can run it, and what it brought."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from fairlead.fleet.config import FleetConfig
from fairlead.model import Action, Complete, Event, Outcome, Reject
from fairlead.planner.load import SAMPLES, load_series
from fairlead.planner.source import TraceSource
from fairlead.simulate import simulate
from fairlead.simulate.faults import Faults
from fairlead.simulate.simulator import Observer
from fairlead.workload.curves import curves
from fairlead.workload.generate.arrivals import parse_process
from fairlead.workload.records import Columns
from fairlead.workload.shape import Shape, ShapedTrace
from fairlead.workload.summary import Summary
from fairlead.workload.trace import TraceRow

LEAST_SAMPLE_S = 0.05


@dataclass(frozen=True, slots=True)
class Cell:
    """One fleet against one trace, with one seed."""

    trace: TraceSource
    shape: Shape
    config: FleetConfig
    fleet: str = ""
    """The fleet file's name."""
    seed: int = 0
    warmup_s: float = 0.0
    faults: Faults | None = None
    """What goes wrong in it."""
    detailed: bool = True
    """Whether the Summary carries what plots need: curves, and the load of each instance."""

    def open(self) -> ShapedTrace:
        return self.trace.shaped(self.shape, self.seed)


def run_cell(
    cell: Cell,
    progress: Callable[[int], None] | None = None,
    *,
    trace: ShapedTrace | None = None,
    observers: Sequence[Observer] = (),
    stop: Callable[[], bool] | None = None,
) -> Summary:
    """Runs it. `trace` is for whoever has opened it already. `stop` is asked before each arrival;
    once it says so nothing more arrives, what is under way ends, and the Summary says that the run
    was interrupted."""
    trace = trace or cell.open()
    played = _Played(trace, stop)
    reasons = Reasons()
    found = simulate(
        cell.config,
        played if trace.closed_loop else played.rows(),
        seed=cell.seed,
        trace=trace.trace.name,
        fleet=cell.fleet,
        warmup_s=cell.warmup_s,
        faults=cell.faults,
        timeline_s=_sample_s(trace) if cell.detailed else None,
        observers=(reasons.observe, *observers),
        progress=progress,
    )
    summary = found.summary.with_extra(
        interrupted=played.interrupted or None,
        simulation={
            "mode": "simulated",
            "arrivals": trace.arrivals,
            "lengths": trace.shape.lengths,
            "closed_loop": trace.closed_loop,
            "offered_rps": offered_rps(found.columns.arrival_s),
            "goodput_rps": goodput_rps(found.columns, played.last_s),
            "skipped_rows": dict(trace.trace.skipped),
            "reasons": dict(reasons.counts.most_common()),
        },
    )
    if not cell.detailed:
        return summary
    return summary.with_extra(curves={**curves(found.columns), "load": load_series(found.timeline)})


class _Played:
    """The rows that are played, and those that follow upon them, until somebody asks to stop."""

    def __init__(self, trace: ShapedTrace, stop: Callable[[], bool] | None) -> None:
        self._trace = trace
        self._stop = stop
        self.interrupted = False
        self.last_s = float("inf")
        """When the last session began, where a session's calls follow on each other; what comes
        later is the end of the run."""

    def rows(self) -> Iterator[TraceRow]:
        rows = takewhile(self._goes_on, self._trace.rows()) if self._stop else self._trace.rows()
        return self._first_calls(rows) if self._trace.closed_loop else rows

    def _first_calls(self, rows: Iterator[TraceRow]) -> Iterator[TraceRow]:
        for row in rows:
            assert row.arrival_s is not None
            self.last_s = row.arrival_s
            yield row

    def follow(self, row: TraceRow, ended_s: float) -> TraceRow | None:
        """The next call of its session."""
        return None if self.interrupted else self._trace.follow(row, ended_s)

    def _goes_on(self, _: TraceRow) -> bool:
        assert self._stop is not None
        self.interrupted = self._stop()
        return not self.interrupted


class Reasons:
    """An observer that counts why requests did not finish."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def observe(self, event: Event, actions: Sequence[Action], now: float) -> None:
        for action in actions:
            if isinstance(action, Reject):
                self.counts[f"rejected: {action.why.value}"] += 1
            elif isinstance(action, Complete) and action.outcome is not Outcome.FINISHED:
                self.counts[f"{action.outcome.value}: {action.why.value}"] += 1


def offered_rps(arrival_s: NDArray[np.float64]) -> float | None:
    """The mean rate at which requests arrived; None where they came all at once."""
    if len(arrival_s) < 2:
        return None
    span_s = float(arrival_s.max() - arrival_s.min())
    return (len(arrival_s) - 1) / span_s if span_s > 0 else None


def goodput_rps(columns: Columns, until_s: float) -> float | None:
    """How many of those that came by then met their objective, each second; None where they came
    all at once."""
    came = columns.arrival_s <= until_s
    rate_rps = offered_rps(columns.arrival_s[came])
    return None if rate_rps is None else rate_rps * float(columns.met[came].mean())


def _sample_s(trace: ShapedTrace) -> float:
    """How often instances are looked at, so that a plot of the whole run is filled."""
    span_s = trace.duration_s
    if span_s is None:
        n = trace.extent.n_sessions if trace.closed_loop else trace.n_rows
        span_s = n / _drawn_rps(trace.shape)
    return max(span_s / SAMPLES, LEAST_SAMPLE_S)


def _drawn_rps(shape: Shape) -> float:
    """The mean rate of arrivals that are not the trace's own."""
    rate = shape.rate_rps
    if shape.process is not None:
        rate = parse_process(shape.process, rate).rate
    assert rate is not None
    return rate * shape.speed
