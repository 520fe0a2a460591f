"""One tenant floods: what becomes of the others, with fair sharing and without? Three tenants on
four emulated H100s, in virtual time.

    python benchmarks/tenants.py                      all of it: half an hour on two cores
    python benchmarks/tenants.py --quick              twenty seconds of traffic, one seed
    python benchmarks/tenants.py --flood 5,20,100 --seeds 3 --out figures.json

Ann, Ben and Cy send alike: chats, promised a first token within a second and 50 ms for each token
after it. Each is played alone first: that is what the others must not take from them. Then all
three together, and Cy sends `--flood` times as much from a third of the run on. Only what arrives
from then on is counted.

Attainment is the share of a tenant's requests that met their objective; one that was turned away
did not. `none` is the queue that does not know who asks, `vtc` is fair sharing. Both run under two
admissions: `predicted` turns away what would miss its objective, `always` nobody. Everything else
is the default.

Exit status 1 if `vtc` lets any of the others lose more than `--points` against being alone.
Only CPU time depends on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from fairlead import __version__
from fairlead.client.progress import Bar
from fairlead.fleet.config import FleetConfig, read_config
from fairlead.planner.pool import run_all
from fairlead.simulate import simulate
from fairlead.workload.row import TraceRow

FLOODER = "cy"
OTHERS = ("ann", "ben")
TENANTS = (*OTHERS, FLOODER)
DURATION_S, QUICK_S = 120.0, 20.0
N_INSTANCES = 4
WARMUP = 1 / 3
"""Of a run: the flood begins after it, and only what arrives from then on is counted."""


@dataclass(frozen=True, slots=True)
class Run:
    """One simulation."""

    tenants: tuple[str, ...]
    flood: float
    """Times the usual rate."""
    fairness: str
    admission: str
    rate_rps: float
    duration_s: float
    seed: int


def main() -> int:
    args = _arguments()
    print(
        f"fairlead {__version__}; {N_INSTANCES} instances of h100-llama-3.1-8b; {args.rate:g} "
        f"requests/s of each tenant, {args.duration:g} s, {args.seeds} seeds"
    )
    keys, runs = _runs(args)
    total = sum(_expected(run) for run in runs)
    with Bar(Console(stderr=True), total) as bar:
        found = run_all(play, runs, args.jobs, lambda n, done: bar.items(n, done, len(runs)))
    figures = _mean(keys, found)
    console = Console(width=max(Console().width, 100), highlight=False)
    for admission in args.admission:
        console.print(_table(figures, admission, args))
    if args.out:
        rows = [{**dict(zip(KEY, key, strict=True)), **one} for key, one in figures.items()]
        args.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return _verdict(figures, args)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="twenty seconds, one seed")
    parser.add_argument("--flood", type=_numbers, default=[20.0], help="times its usual rate")
    parser.add_argument("--rate", type=float, default=20.0, help="requests/s of each; default 20")
    parser.add_argument("--fairness", type=_words, default=["none", "vtc"])
    parser.add_argument("--admission", type=_words, default=["predicted", "always"])
    parser.add_argument("--duration", type=float, help="seconds of traffic; default 120")
    parser.add_argument("--seeds", type=int, help="runs of each, averaged; default 3")
    parser.add_argument("--points", type=float, default=2.0, help="most that others may lose")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, help="all figures as JSON")
    args = parser.parse_args()
    args.duration = args.duration or (QUICK_S if args.quick else DURATION_S)
    args.seeds = args.seeds or (1 if args.quick else 3)
    return args


def _words(text: str) -> list[str]:
    return text.split(",")


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


# ---------------------------------------------------------------- what is played

Key = tuple[str, float, str, str]
KEY = ("tenants", "flood", "fairness", "admission")


def _runs(args: argparse.Namespace) -> tuple[list[Key], list[Run]]:
    """Each tenant alone, under the queue that everybody has today; then all together."""
    keys: list[Key] = []
    for admission in args.admission:
        keys += [(tenant, 1.0, "none", admission) for tenant in TENANTS]
        keys += [("all", f, name, admission) for f in (1.0, *args.flood) for name in args.fairness]
    keys = [key for key in keys for _ in range(args.seeds)]
    runs = [
        Run(
            TENANTS if tenants == "all" else (tenants,),
            flood,
            fairness,
            admission,
            args.rate,
            args.duration,
            i % args.seeds,
        )
        for i, (tenants, flood, fairness, admission) in enumerate(keys)
    ]
    return keys, runs


def _expected(run: Run) -> int:
    """About how many requests it has."""
    others = len(run.tenants) - (FLOODER in run.tenants)
    flood = (FLOODER in run.tenants) * (WARMUP + (1 - WARMUP) * run.flood)
    return int(run.rate_rps * run.duration_s * (others + flood))


def play(run: Run, tell: Any = None) -> dict[str, Any]:
    """From the flood's beginning on: attainment and tail of each tenant, and what of all that came
    met its objective, a second. The time in which a queue empties afterwards does not count."""
    done = simulate(
        config(run),
        rows(run),
        seed=run.seed,
        warmup_s=run.duration_s * WARMUP,
        progress=tell,
    ).summary
    n_met = sum(group.total * (group.attainment or 0.0) for group in done.tenants.values())
    return {
        "goodput_rps": n_met / (run.duration_s * (1 - WARMUP)),
        "attainment": {t: group.attainment for t, group in done.tenants.items()},
        "ttft_s_p99": {t: group.ttft_s.p99 for t, group in done.tenants.items()},
        "total": {t: group.total for t, group in done.tenants.items()},
    }


def rows(run: Run) -> list[TraceRow]:
    """Poisson arrivals. A tenant's own requests are the same ones, whoever else is there."""
    found: list[TraceRow] = []
    for tenant in run.tenants:
        draw = Random(f"tenants {run.seed} {tenant}")
        now = 0.0
        while True:
            flooding = tenant == FLOODER and now >= run.duration_s * WARMUP
            now += draw.expovariate(run.rate_rps * (run.flood if flooding else 1.0))
            if now >= run.duration_s:
                break
            prompt = min(int(700 * draw.lognormvariate(0.0, 0.8)) + 1, 16000)
            output = min(int(150 * draw.lognormvariate(0.0, 0.8)) + 1, 2000)
            found.append(TraceRow(0, now, prompt, output, tenant=tenant))
    found.sort(key=lambda row: (row.arrival_s or 0.0, row.tenant))
    for index, row in enumerate(found):
        row.index = index
    return found


def config(run: Run) -> FleetConfig:
    promised = {"ttft_s": 1.0, "tpot_s": 0.05}
    return read_config(
        {
            "pool": [
                {
                    "name": "h100",
                    "model": "llama-3.1-8b",
                    "engine": "emulated",
                    "hardware": "h100-llama-3.1-8b",
                    "instances": N_INSTANCES,
                }
            ],
            "policy": {"fairness": run.fairness, "admission": run.admission},
            "objectives": {"interactive": promised},
            "workload": {"default": "interactive"},
        }
    )


# ---------------------------------------------------------------- what is shown


def _mean(keys: Sequence[Key], found: Sequence[dict[str, Any]]) -> dict[Key, dict[str, Any]]:
    """Of the seeds of each."""
    gathered: dict[Key, list[dict[str, Any]]] = {}
    for key, one in zip(keys, found, strict=True):
        gathered.setdefault(key, []).append(one)
    return {key: _mean_of(several) for key, several in gathered.items()}


def _mean_of(several: Sequence[dict[str, Any]]) -> dict[str, Any]:
    def mean(name: str, tenant: str) -> float | None:
        values = [one[name][tenant] for one in several if one[name].get(tenant) is not None]
        return fmean(values) if values else None

    tenants = list(several[0]["attainment"])
    return {
        "goodput_rps": fmean(one["goodput_rps"] for one in several),
        **{
            name: {tenant: mean(name, tenant) for tenant in tenants}
            for name in ("attainment", "ttft_s_p99", "total")
        },
    }


def _table(figures: dict[Key, dict[str, Any]], admission: str, args: argparse.Namespace) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=f"admission {admission}")
    table.title_justify = "left"
    table.add_column("attainment (p99 of the first token)")
    for tenant in TENANTS:
        table.add_column(tenant, justify="right")
    table.add_column("goodput/s", justify="right")
    alone = [figures[tenant, 1.0, "none", admission] for tenant in TENANTS]
    cells = [_cell(one, tenant) for one, tenant in zip(alone, TENANTS, strict=True)]
    table.add_row("each alone", *cells, "")
    for flood in (1.0, *args.flood):
        for fairness in args.fairness:
            one = figures["all", flood, fairness, admission]
            table.add_row(
                f"together, flood {flood:g}x, {fairness}",
                *(_cell(one, tenant) for tenant in TENANTS),
                f"{one['goodput_rps']:.1f}",
            )
    return table


def _cell(one: dict[str, Any], tenant: str) -> str:
    p99_s = one["ttft_s_p99"][tenant]
    late = "" if p99_s is None else f" ({p99_s:.2f} s)"
    return f"{one['attainment'][tenant]:.1%}{late}"


def _verdict(figures: dict[Key, dict[str, Any]], args: argparse.Namespace) -> int:
    """What the others lose by the worst flood."""
    status = 0
    for fairness in args.fairness:
        for admission in args.admission:
            lost = max(
                figures[tenant, 1.0, "none", admission]["attainment"][tenant]
                - figures["all", flood, fairness, admission]["attainment"][tenant]
                for tenant in OTHERS
                for flood in args.flood
            )
            holds = 100 * lost <= args.points
            print(
                f"{fairness}, admission {admission}: the others lose {100 * lost:.1f} points at "
                f"most{'' if holds else f', over {args.points:g}'}"
            )
            if fairness == "vtc" and not holds:
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
