"""What a fixed pool costs at the peak of a bursty hour, and what scaling it saves and loses.

    python benchmarks/scaling.py            # an hour of ServeGen, in eight minutes of two cores
    python benchmarks/scaling.py --quick    # one minute
    python benchmarks/scaling.py --policies kpa,kpa:target=12 --start-up 30,120
    python benchmarks/scaling.py --window 350280:354600 --fixed 8 --most 16   # another burst

Prints, for each scaling policy and start-up time, the share of requests that kept their objective
(first token within 5 s, 250 ms per token) and the instance-hours until the last arrival, from when
an instance was asked for: what starts is paid for. Policies that count requests need the number
that is right for an instance, and it differs from load to load: `NAME:target=N` says another than
the default.

The hour is that of the trace with the steepest rise: 5 requests/s, five times as many from one
moment to the next, three times as many, and 5 again. Its rates are those of ten-minute windows, so
bursts are steps, which nobody can see coming; real ones have some slope. `--quick` plays every
16th request with lengths eight times as long on the same instances: about the same work in fewer
requests, so that policies which count requests see another load, and come out in another order.

The traces lie in ../shared/traces. Equal arguments, equal figures.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from rich import box
from rich.console import Console
from rich.table import Table

from fairlead import __version__
from fairlead.client.progress import Bar
from fairlead.fleet.config import FleetConfig, read_config
from fairlead.model import Action, Event, FairleadError, InstanceDown, InstanceId, InstanceUp
from fairlead.planner.pool import run_all
from fairlead.planner.source import TraceSource
from fairlead.simulate import simulate
from fairlead.workload.shape import Shape, parse_window
from fairlead.workload.trace import TraceRow

TRACES = Path(__file__).parents[2] / "shared" / "traces"
TRACE = "servegen_m_large_days"
LOADS = "aux_genai_load_latency"
HARDWARE = "rtxpro6000x2-qwen3-32b"
WINDOW_S = (54_720.0, 58_320.0)
FIXED = 4
"""Instances that keep 99 % of the objectives at the peak."""
POLICIES = ("queue-based", "queue-based:target=12", "kpa", "llumnix-scaling", "slo-forecast")
NONE = "none"


@dataclass(frozen=True, slots=True)
class Part:
    """What is played of the trace."""

    window_s: tuple[float, float] = WINDOW_S
    every: int = 1
    """One request in so many."""
    lengths: float = 1.0
    """Prompts and answers are so many times as long."""
    first: int = 0
    """Which of `every` is the first: equal parts that share no request."""

    def rows(self) -> list[TraceRow]:
        return _rows(self.window_s, self.lengths)[self.first :: self.every]


@cache
def _rows(window_s: tuple[float, float], lengths: float) -> list[TraceRow]:
    source = TraceSource(str(TRACES / f"{TRACE}.parquet"))
    return list(source.shaped(Shape(window_s=window_s, lengths=lengths)).rows())


QUICK = Part(every=16, lengths=8.0)


@dataclass(frozen=True, slots=True)
class Case:
    """One simulation. Without a policy the pool keeps the size it begins with."""

    part: Part
    policy: str
    """`NAME` or `NAME:parameter=number,...`."""
    start_up_s: float = 0.0
    n: int = 1
    """Instances to begin with."""
    most: int = 10


@dataclass(frozen=True, slots=True)
class Result:
    policy: str
    start_up_s: float
    requests: int
    attainment: float
    instance_hours: float
    peak: int
    """Most instances at a time, those that start counted."""
    ttft_s_p99: float | None


def main() -> None:
    args = _arguments()
    if not present():
        sys.exit(f"{TRACE}.parquet is not in {TRACES}; there is nothing to play.")
    part = replace(QUICK if args.quick else Part(), window_s=args.window, first=args.seed)
    fixed = [Case(part, NONE, n=n, most=max(n, args.most)) for n in args.fixed]
    scaled = [
        Case(part, policy, start_up_s, most=args.most)
        for policy in args.policies
        for start_up_s in args.start_up
    ]
    print(f"fairlead {__version__}, Python {sys.version.split()[0]}; {TRACE}, {part}")
    print(f"{HARDWARE}, 1 to {args.most} instances; fcfs, least-load, always\n{_load_times()}")
    begun_s, cases = time.perf_counter(), [*fixed, *scaled]
    with Bar(Console(stderr=True), None) as bar:
        results = run_all(play, cases, args.jobs, lambda n, done: bar.items(n, done, len(cases)))
    _print(results, args)
    print(f"{time.perf_counter() - begun_s:.0f} s in {args.jobs} processes")
    if args.out:
        found = [asdict(result) for result in results]
        args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--policies", type=_policies, default=list(POLICIES))
    parser.add_argument("--start-up", type=_numbers, default=[30.0, 60.0, 120.0], help="seconds")
    parser.add_argument("--fixed", type=_sizes, default=[FIXED], help="fixed pools' sizes")
    parser.add_argument("--most", type=int, default=10, help="instances that a policy may have")
    parser.add_argument("--window", type=parse_window, default=WINDOW_S, help="A:B in seconds")
    parser.add_argument("--seed", type=int, default=0, help="with --quick: which 16th of the trace")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, help="all figures as JSON")
    return parser.parse_args()


def _policies(text: str) -> list[str]:
    """Several parameters of one policy are joined by commas too: `kpa:target=12,period_s=4`."""
    found: list[str] = []
    for word in text.split(","):
        if "=" in word and ":" not in word:
            found[-1] += f",{word}"
        else:
            found.append(word)
    return found


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


def _sizes(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _load_times() -> str:
    """What start-up times are like elsewhere."""
    path = TRACES / f"{LOADS}.parquet"
    if not path.exists():
        return f"{path} is not here: nothing to hold the start-up times against."
    table = pq.read_table(path, columns=["component", "latency_ms"]).to_pydict()
    pairs = zip(table["component"], table["latency_ms"], strict=True)
    loads_s = [ms / 1000 for component, ms in pairs if component == "base_model"]
    shown = ", ".join(f"p{q} {np.percentile(loads_s, q):.0f} s" for q in (50, 90, 99))
    return (
        f"start-up times for comparison: {len(loads_s):,} loads of base models, {shown} ({LOADS})"
    )


# ---------------------------------------------------------------- one run


def present() -> bool:
    """Whether the trace is here."""
    return (TRACES / f"{TRACE}.parquet").exists()


def play(case: Case, tell: Callable[[int], None] | None = None) -> Result:
    rows = case.part.rows()
    meter = Meter(case.start_up_s)
    done = simulate(
        config(case), rows, seed=case.part.first, observers=(meter,), progress=tell
    ).summary
    end_s = rows[-1].arrival_s or 0.0
    return Result(
        case.policy if case.policy != NONE else f"fixed at {case.n}",
        case.start_up_s,
        len(rows),
        done.attainment or 0.0,
        meter.instance_s(end_s) / 3600,
        meter.peak(end_s),
        done.ttft_s.p99,
    )


def config(case: Case) -> FleetConfig:
    """One pool, nobody turned away."""
    name, _, given = case.policy.partition(":")
    params = {
        key: float(value) for key, _, value in (w.partition("=") for w in given.split(",") if w)
    }
    pool = {
        "name": "chat",
        "model": "m",
        "engine": "emulated",
        "hardware": HARDWARE,
        "instances": case.n,
        "min_instances": 1,
        "max_instances": case.most,
        "max_waiting": 1_000_000,
    }
    return read_config(
        {
            "pool": [pool],
            "policy": {
                "admission": "always",
                "routing": "least-load",
                "batching": "fcfs",
                "rescheduling": "none",
                "scaling": name,
                "params": {"scaling": params},
            },
            "objectives": {"interactive": {"ttft_s": 5.0, "tpot_s": 0.25}},
            "simulation": {"start_up_s": case.start_up_s, "report_s": 2.0, "tick_s": 2.0},
        }
    )


class Meter:
    """Listens to a run; knows for how long each instance is paid."""

    def __init__(self, start_up_s: float) -> None:
        self._start_up_s = start_up_s
        self._since_s: dict[InstanceId, float] = {}
        self._spans_s: list[tuple[float, float]] = []

    def __call__(self, event: Event, actions: Sequence[Action], now: float) -> None:
        if isinstance(event, InstanceUp):
            # Those that are there from the beginning did not have to be asked for.
            self._since_s[event.spec.id] = max(now - self._start_up_s, 0.0)
        elif isinstance(event, InstanceDown):
            self._spans_s.append((self._since_s.pop(event.instance), now))

    def instance_s(self, end_s: float) -> float:
        return sum(until_s - since_s for since_s, until_s in self._spans(end_s))

    def peak(self, end_s: float) -> int:
        """Most at a time."""
        spans = self._spans(end_s)
        return max(sum(a <= at < b for a, b in spans) for at, _ in spans)

    def _spans(self, end_s: float) -> list[tuple[float, float]]:
        spans = [*self._spans_s, *((since_s, end_s) for since_s in self._since_s.values())]
        return [(since_s, min(until_s, end_s)) for since_s, until_s in spans if since_s < end_s]


# ---------------------------------------------------------------- the table


def _print(results: Sequence[Result], args: argparse.Namespace) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(f"{results[0].requests:,} requests")
    for start_up_s in args.start_up:
        table.add_column(f"{start_up_s:g} s", justify="right")
        table.add_column("hours", justify="right")
        table.add_column("most", justify="right")
    n = len(args.start_up)
    fixed, scaled = results[: len(args.fixed)], results[len(args.fixed) :]
    for result in fixed:
        table.add_row(result.policy, *_cells(result) * n)
    for start in range(0, len(scaled), n):
        row = scaled[start : start + n]
        table.add_row(row[0].policy, *(cell for result in row for cell in _cells(result)))
    Console(width=max(Console().width, 100), highlight=False).print(table)
    print("share of objectives kept, instance-hours, most instances, by start-up time")


def _cells(result: Result) -> list[str]:
    return [f"{result.attainment:.1%}", f"{result.instance_hours:.2f}", str(result.peak)]


if __name__ == "__main__":
    try:
        main()
    except FairleadError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
