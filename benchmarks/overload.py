"""More than a fleet can do: what becomes of goodput at 1, 2, 5 and 10 times its capacity? Emulated
H100s in virtual time, default policies against taking everything.

    python benchmarks/overload.py                             five minutes on two cores
    python benchmarks/overload.py --quick                     a minute: thirty seconds of traffic
    python benchmarks/overload.py --page overload.html        also a page with the plots
    python benchmarks/overload.py --set policy.fairness=vtc   another fleet under the same load

Requests are chats (first token within a second, 50 ms for each after it); with `--tasks 0.3` three
in ten are tasks (done within fifteen seconds). Capacity is looked for first: the highest rate at
which the default keeps `--attain` of all objectives. Then both are played at multiples of it.

Goodput counts the requests that met their objective, by the second in which they arrived; one that
was turned away did not. The first third of a run is left out, and so are its last fifteen seconds:
what can wait so long is served when nothing arrives any more. The peak is the best goodput of the
same policies at that load or a lighter one: with more to choose from admission may keep more, and
that is no fall. `prompts` is the mean length of those served, over that of all that came.

Exit status 1 if the default's goodput, at capacity or above, falls below `--hold` of its peak.
Only CPU time depends on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from fairlead import __version__
from fairlead.cli.fleet_file import apply_change
from fairlead.client.axes import make_panels, require_matplotlib, stroke, svg
from fairlead.client.document import document
from fairlead.client.out_file import OutFile
from fairlead.client.progress import Bar
from fairlead.fleet.config import FleetConfig, read_config
from fairlead.model import FairleadError
from fairlead.planner.pool import run_all
from fairlead.simulate import simulate
from fairlead.workload.records import ENDINGS, Ending
from fairlead.workload.row import TraceRow

DURATION_S, QUICK_S = 60.0, 30.0
DEADLINE_S = 15.0
WARMUP = 1 / 3
"""Of a run: what arrives then is not counted."""
VARIANTS = {"default": (), "always": ("policy.admission=always",)}
"""What each changes about the fleet."""
FIRST_RATE_RPS = 10.0
BISECTIONS = 4
"""After doubling: the capacity is found to a sixteenth."""


@dataclass(frozen=True, slots=True)
class Run:
    """One simulation."""

    changes: tuple[str, ...]
    instances: int
    rate_rps: float
    duration_s: float
    seed: int
    tasks: float
    """The share of requests with a deadline."""


@dataclass(frozen=True, slots=True)
class Point:
    """What one variant did at one rate, averaged over seeds."""

    variant: str
    times: float
    """The rate as a multiple of the capacity."""
    rate_rps: float
    goodput_rps: float
    turned_away: float
    """The share of requests that were rejected."""
    attainment_of_served: float
    """Of those that were not."""
    ttft_s_p99: float | None
    prompts_of_served: float | None
    """Their mean length, over that of all that came: below one where long prompts are those that
    are turned away."""


def main() -> int:
    args = _arguments()
    try:
        if args.page:
            require_matplotlib()
        page = OutFile(args.page) if args.page else None
        out = OutFile(args.out) if args.out else None
        print(_what(args))
        capacity_rps = args.capacity or _capacity(args)
        points = _play_all(args, capacity_rps)
    except FairleadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console = Console(width=max(Console().width, 90), highlight=False)
    console.print(_table(points))
    if out:
        out.write(json.dumps([asdict(point) for point in points], indent=1) + "\n")
    if page:
        page.write(_page(points, args))
        print(f"wrote {args.page}")
    return _verdict(points, args.hold)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="thirty seconds of traffic")
    parser.add_argument("--times", type=_numbers, default=[0.5, 1.0, 1.5, 2.0, 5.0, 10.0])
    parser.add_argument("--capacity", type=float, help="requests/s; default: looked for")
    parser.add_argument("--attain", type=float, default=0.97, help="what capacity means")
    parser.add_argument("--hold", type=float, default=0.9, help="of its peak, at all loads")
    parser.add_argument("--tasks", type=float, default=0.0, help="their share; default none")
    parser.add_argument("--instances", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--duration", type=float, help="seconds of traffic; default 60")
    parser.add_argument("--seeds", type=int, help="runs of each, averaged; default 2")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, help="all figures as JSON")
    parser.add_argument("--page", type=Path, help="a page with the plots")
    args = parser.parse_args()
    args.duration = args.duration or (QUICK_S if args.quick else DURATION_S)
    if args.duration * (1 - WARMUP) <= DEADLINE_S:
        parser.error(f"--duration must be over {DEADLINE_S / (1 - WARMUP):g}: nothing is counted")
    args.seeds = args.seeds or (1 if args.quick else 2)
    return args


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


def _what(args: argparse.Namespace) -> str:
    changed = f"; {', '.join(args.set)}" if args.set else ""
    return (
        f"fairlead {__version__}; {args.instances} instances of h100-llama-3.1-8b, "
        f"{args.duration:g} s of traffic, {args.tasks:.0%} tasks, seeds: {args.seeds}{changed}"
    )


# ---------------------------------------------------------------- what is played


def _capacity(args: argparse.Namespace) -> float:
    """The highest rate at which the default keeps its objectives, in requests/s."""
    run = Run(tuple(args.set), args.instances, FIRST_RATE_RPS, args.duration, 0, args.tasks)

    def holds(rate_rps: float) -> bool:
        done = play(replace(run, rate_rps=rate_rps))
        return bool(done["goodput_rps"] >= args.attain * done["offered_rps"])

    low, high = 0.0, FIRST_RATE_RPS
    while holds(high):
        low, high = high, 2 * high
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    capacity_rps = low or high
    print(f"capacity: {capacity_rps:g} requests/s, where {args.attain:.0%} of objectives are kept")
    return capacity_rps


def _play_all(args: argparse.Namespace, capacity_rps: float) -> list[Point]:
    keys = [(name, times) for name in VARIANTS for times in args.times]
    runs = [
        Run(
            (*args.set, *VARIANTS[name]),
            args.instances,
            times * capacity_rps,
            args.duration,
            seed,
            args.tasks,
        )
        for name, times in keys
        for seed in range(args.seeds)
    ]
    total = int(sum(run.rate_rps * run.duration_s for run in runs))
    with Bar(Console(stderr=True), total) as bar:
        found = run_all(play, runs, args.jobs, lambda n, done: bar.items(n, done, len(runs)))
    return [
        _point(name, times, capacity_rps, found[i * args.seeds : (i + 1) * args.seeds])
        for i, (name, times) in enumerate(keys)
    ]


def _point(name: str, times: float, capacity_rps: float, found: Sequence[dict[str, Any]]) -> Point:
    return Point(
        name,
        times,
        times * capacity_rps,
        fmean(one["goodput_rps"] for one in found),
        fmean(one["turned_away"] for one in found),
        fmean(one["attainment_of_served"] for one in found),
        _mean([one["ttft_s_p99"] for one in found]),
        _mean([one["prompts_of_served"] for one in found]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def play(run: Run, tell: Any = None) -> dict[str, Any]:
    """Figures of what arrived in the time that counts."""
    begin_s, end_s = run.duration_s * WARMUP, run.duration_s - DEADLINE_S
    columns = simulate(config(run), rows(run), seed=run.seed, progress=tell).columns
    counted = (columns.arrival_s >= begin_s) & (columns.arrival_s < end_s)
    rejected = counted & (columns.ending == ENDINGS.index(Ending.REJECTED))
    total, n_met = int(counted.sum()), int((counted & columns.met).sum())
    ttft_s = (columns.first_s - columns.arrival_s)[counted & ~np.isnan(columns.first_s)]
    prompts, served = columns.prompt_tokens, counted & ~rejected
    return {
        "offered_rps": total / (end_s - begin_s),
        "goodput_rps": n_met / (end_s - begin_s),
        "turned_away": int(rejected.sum()) / max(total, 1),
        "attainment_of_served": n_met / max(total - int(rejected.sum()), 1),
        "ttft_s_p99": float(np.quantile(ttft_s, 0.99)) if len(ttft_s) else None,
        "prompts_of_served": (
            float(prompts[served].mean() / prompts[counted].mean()) if served.any() else None
        ),
    }


def rows(run: Run) -> list[TraceRow]:
    """Poisson arrivals of prompts and answers whose lengths spread as those of chats do."""
    draw = Random(f"overload {run.seed}")
    found: list[TraceRow] = []
    now = draw.expovariate(run.rate_rps)
    while now < run.duration_s:
        prompt = min(int(700 * draw.lognormvariate(0.0, 0.8)) + 1, 16000)
        output = min(int(150 * draw.lognormvariate(0.0, 0.8)) + 1, 2000)
        found.append(TraceRow(len(found), now, prompt, output))
        now += draw.expovariate(run.rate_rps)
    return found


def config(run: Run) -> FleetConfig:
    pool = {
        "name": "h100",
        "model": "llama-3.1-8b",
        "engine": "emulated",
        "hardware": "h100-llama-3.1-8b",
        "instances": run.instances,
    }
    tables: dict[str, Any] = {
        "pool": [pool],
        "objectives": {
            "interactive": {"ttft_s": 1.0, "tpot_s": 0.05},
            "task": {"deadline_s": DEADLINE_S},
        },
        "workload": {"default": "interactive", "mix": {"task": run.tasks}},
    }
    for change in run.changes:
        apply_change(tables, change)
    return read_config(tables)


# ---------------------------------------------------------------- what is shown


def _peak(point: Point, points: Sequence[Point]) -> float:
    """The best of the same policies at no more load."""
    same = (p for p in points if p.variant == point.variant and p.times <= point.times)
    return max(p.goodput_rps for p in same)


def _kept(point: Point, points: Sequence[Point]) -> float:
    return point.goodput_rps / (_peak(point, points) or 1.0)


HEADS = (
    "load",
    "offered/s",
    "goodput/s",
    "of peak",
    "refused",
    "in time",
    "p99",
    "prompts",
)


def _cells(point: Point, points: Sequence[Point]) -> list[str]:
    p99_s = point.ttft_s_p99
    return [
        f"{point.times:g}x",
        f"{point.rate_rps:.0f}",
        f"{point.goodput_rps:.1f}",
        f"{_kept(point, points):.0%}",
        f"{point.turned_away:.0%}",
        f"{point.attainment_of_served:.0%}",
        "" if p99_s is None else f"{p99_s:.2f} s",
        "" if point.prompts_of_served is None else f"{point.prompts_of_served:.0%}",
    ]


def _table(points: Sequence[Point]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("policies")
    for head in HEADS:
        table.add_column(head, justify="right")
    for name in VARIANTS:
        for point in points:
            if point.variant == name:
                table.add_row(name, *_cells(point, points))
        table.add_section()
    return table


def _page(points: Sequence[Point], args: argparse.Namespace) -> str:
    figure, (goodput, tail) = make_panels(1, 2, height_in=3.2)
    for place, name in enumerate(VARIANTS):
        mine = [point for point in points if point.variant == name]
        times = [point.times for point in mine]
        goodput.plot(times, [p.goodput_rps for p in mine], marker="o", label=name, **stroke(place))
        tails = [p.ttft_s_p99 for p in mine]
        tail.plot(times, tails, marker="o", label=name, **stroke(place))
    ours = [point for point in points if point.variant == "default"]
    least = [args.hold * _peak(point, points) for point in ours]
    goodput.plot([p.times for p in ours], least, color="#444444", lw=1, ls=(0, (2, 2)))
    goodput.set_title(
        f"goodput (requests/s); dotted: {args.hold:.0%} of the default's peak so far",
        loc="left",
        fontsize=9,
    )
    goodput.set_ylim(bottom=0)
    goodput.legend()
    tail.set_title("99th percentile of the first token (s)", loc="left", fontsize=9)
    tail.set_yscale("log")
    for panel in (goodput, tail):
        panel.set_xscale("log")
        panel.set_xticks(args.times, [f"{times:g}x" for times in args.times])
        panel.minorticks_off()
        panel.set_xlabel("load, as a multiple of capacity")
    lines = [[point.variant, *_cells(point, points)] for point in points]
    rows = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in line) + "</tr>" for line in lines)
    heads = "".join(f"<th>{head}</th>" for head in HEADS)
    parts = [
        "<h1>More than a fleet can do</h1>",
        f'<p class="dim">{_what(args)}. Chats: first token within 1 s, 50 ms for each after '
        "it. Tasks: done within 15 s.</p>",
        svg(figure, "Goodput and first token by load"),
        f"<table><thead><tr><th>policies</th>{heads}</tr></thead><tbody>{rows}</tbody></table>",
        '<p class="dim">Goodput counts requests that met their objective; one that was turned away '
        "did not. &ldquo;Served in time&rdquo; is of those that were let in; p99 is of their first "
        "token.</p>",
    ]
    command = shlex.join(["python", "benchmarks/overload.py", *sys.argv[1:]])
    return document("More than a fleet can do", parts, command, [__version__])


def _verdict(points: Sequence[Point], hold: float) -> int:
    """Whether the default's goodput stays, and what became of the other's."""
    kept = {}
    for name in VARIANTS:
        loaded = [p for p in points if p.variant == name and p.times >= 1]
        worst = min(loaded, key=lambda point: _kept(point, points), default=None)
        if worst is None:
            continue
        kept[name] = _kept(worst, points)
        print(f"{name}: at {worst.times:g}x, its worst, {kept[name]:.1%} of its peak goodput")
    holds = kept.get("default", 1.0) >= hold
    print(f"{hold:.0%} of peak under overload: {'holds' if holds else 'does not hold'}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
