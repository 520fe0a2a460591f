"""Which rescheduling policy is worth its moves? Goodput, the tail of first tokens, moves and
preemptions for each, on five traces below and above capacity.

    python benchmarks/rescheduling.py                 all of it; half an hour of CPU time
    python benchmarks/rescheduling.py --quick         three cases, few requests: two minutes
    python benchmarks/rescheduling.py --cases mixed --loads 80,130 --seeds 8
    python benchmarks/rescheduling.py --policies none,llumnix --out figures.json
    python benchmarks/rescheduling.py --cases mixed --instances 64     a larger fleet, more traffic

Everything but rescheduling is the default: routing by cached prefix and load, admission by
prediction, batching by slack. `power-law` alone is played as Llumnix' paper does: nobody is
promised anything or turned away, and memory is short.

Goodput is the share of requests that met their objective, times the rate at which requests came.
100% is about where nine in ten objectives are met without rescheduling (`power-law`: where p99
rises). One run's goodput differs by two percent from another's if anything at all happens a
millisecond later, so look at several seeds. Moves are hand-offs and requests sent anew, for each
request; `back` counts, in a thousand requests, those that took another back (see
`observe/oscillation.py`). `round` is the CPU time of one look at the fleet for moves: the median
and the longest, in milliseconds.

Traces lie in ../shared/traces; those that are absent are left out. With `--instances` rate and
requests grow with the fleet, as far as a trace goes. Only CPU time depends on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import fmean, median
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from fairlead import __version__
from fairlead.client.progress import Bar
from fairlead.fleet.config import FleetConfig, read_config
from fairlead.observe.oscillation import Oscillations
from fairlead.planner.pool import run_all
from fairlead.planner.source import TraceSource
from fairlead.policies import registry
from fairlead.simulate import simulate
from fairlead.workload.objectives import ObjectiveDraw
from fairlead.workload.shape import Shape
from fairlead.workload.trace import TraceRow

TRACES = Path(__file__).parent.parent.parent / "shared" / "traces"
FAMILY = "rescheduling"
OURS = "predicted-gain"
POLICIES = ("none", "llumnix", "hotspot", "defragment", "vm-rescheduling", OURS)


@dataclass(frozen=True, slots=True)
class Case:
    """What is played, and on how many instances."""

    name: str
    rate_rps: float
    """At 100%."""
    requests: int
    ttft_s: float = 1.0
    """What interactive requests are promised: one second, and five where prompts are long."""
    instances: int = 8
    stepped: bool = False
    """Arrivals are rounded in the source, and are spread again."""


CASES = (
    Case("power-law", 20.0, 1500, instances=4),
    Case("mixed", 100.0, 2000, instances=4),
    Case("azure2023_conv", 378.0, 3500),
    Case("mooncake_conversation", 9.5, 1000, ttft_s=5.0, stepped=True),
    Case("mooncake_synthetic", 12.4, 1200, ttft_s=5.0),
    Case("servegen_r1_sampled", 126.0, 2000),
)
QUICK = ("power-law", "mixed", "azure2023_conv")
QUICK_REQUESTS = 1500


@dataclass(frozen=True, slots=True)
class Run:
    """One simulation."""

    case: Case
    load_percent: float
    policy: str
    seed: int


def main() -> None:
    args = _arguments()
    console = Console(width=max(Console().width, 110), highlight=False)
    cases = [_sized(case, args) for case in _present(args)]
    runs = [
        Run(case, load, policy, seed)
        for case in cases
        for load in args.loads
        for policy in args.policies
        for seed in range(args.seeds)
    ]
    print(f"fairlead {__version__}; {args.seeds} seeds")
    for name in args.policies:
        params = asdict(registry.find("rescheduling", name).params())
        print(f"  {name}: {', '.join(f'{k}={v}' for k, v in params.items()) or 'no parameters'}")
    begun_s = time.perf_counter()
    with Bar(Console(stderr=True), sum(run.case.requests for run in runs)) as bar:
        found = run_all(play, runs, args.jobs, lambda n, done: bar.items(n, done, len(runs)))
    results = _results(runs, found, args)
    for result in results:
        console.print(_table(result))
    print(f"{time.perf_counter() - begun_s:.0f} s in {args.jobs} processes")
    if args.out:
        args.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few requests of three cases")
    parser.add_argument("--cases", type=_words, help="default: all of them")
    parser.add_argument("--policies", type=_words, default=list(POLICIES))
    parser.add_argument("--loads", type=_numbers, help="in percent; default 80,100,120")
    parser.add_argument("--instances", type=int, help="default: 4 or 8, as the case has it")
    parser.add_argument("--requests", type=int, help="of every case")
    parser.add_argument("--seeds", type=int, help="runs of each, averaged; default 3")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, help="all figures as JSON")
    args = parser.parse_args()
    args.cases = args.cases or (list(QUICK) if args.quick else [case.name for case in CASES])
    args.loads = args.loads or ([110.0] if args.quick else [80.0, 100.0, 120.0])
    args.requests = args.requests or (QUICK_REQUESTS if args.quick else None)
    args.seeds = args.seeds or (1 if args.quick else 3)
    unknown = set(args.policies) - {e.name for e in registry.entries() if e.family == FAMILY}
    if unknown:
        parser.error(f"no rescheduling policy is called {', '.join(sorted(unknown))}")
    return args


def _words(text: str) -> list[str]:
    return text.split(",")


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


def _sized(case: Case, args: argparse.Namespace) -> Case:
    n = args.instances or case.instances
    growth = n / case.instances
    requests = args.requests or int(case.requests * growth)
    return replace(case, instances=n, rate_rps=case.rate_rps * growth, requests=requests)


def _present(args: argparse.Namespace) -> list[Case]:
    """The cases that were asked for and whose traces are here."""
    by_name = {case.name: case for case in CASES}
    found = []
    for name in args.cases:
        path = TRACES / f"{name}.parquet"
        if name in by_name and (name in MADE or path.exists()):
            found.append(by_name[name])
        else:
            print(f"{name}: left out; {path} is not here, or it is none of {', '.join(by_name)}")
    return found


# ---------------------------------------------------------------- what is played


def power_law(config: FleetConfig, rate_rps: float, n: int, seed: int) -> Iterator[TraceRow]:
    """Bursts of requests whose prompts and answers have from 64 to 6,000 tokens, most of them few:
    the traffic of Llumnix' paper."""
    draw = Random(f"llumnix {seed}")

    def tokens() -> int:
        ends = [bound**-1.2 for bound in (64, 6000)]
        return max(int((ends[0] - draw.random() * (ends[0] - ends[1])) ** (-1 / 1.2)), 2)

    for i, arrival_s in enumerate(_bursts(draw, rate_rps, n)):
        yield TraceRow(i, arrival_s, tokens(), tokens())


def mixed(config: FleetConfig, rate_rps: float, n: int, seed: int) -> Iterator[TraceRow]:
    """People who chat, agents with a deadline for each call whose prompts grow, and documents that
    nobody waits for, in bursts."""
    draw, objectives = Random(f"mixed {seed}"), ObjectiveDraw(config.workload, seed)
    calls = [0] * 40

    def lengths(median: int, spread: float, most: int) -> int:
        return min(int(median * draw.lognormvariate(0.0, spread)) + 1, most)

    for i, arrival_s in enumerate(_bursts(draw, rate_rps, n)):
        row = TraceRow(i, arrival_s, 1, 1)
        kind = objectives.objective(row).name
        if kind == "interactive":
            row.prompt_tokens, row.output_tokens = lengths(400, 1.0, 16000), lengths(150, 0.8, 4000)
        elif kind == "batch":
            row.prompt_tokens, row.output_tokens = (
                lengths(8600, 0.7, 60000),
                lengths(240, 0.8, 4000),
            )
        else:
            agent = draw.randrange(len(calls))
            task, turn = divmod(calls[agent], 12)
            calls[agent] += 1
            row.prompt_tokens, row.output_tokens = 2048 + 1024 * turn, lengths(90, 0.6, 4000)
            # Four blocks of instructions are the same in every task of an agent.
            own = [1000 * (1000 * agent + task + 1) + k for k in range(4, row.prompt_tokens // 512)]
            row.hash_ids = (*(10**9 + 4 * agent + k for k in range(4)), *own)
            row.hash_block_tokens = 512
        yield row


def _bursts(draw: Random, rate_rps: float, n: int, cv: float = 3.0) -> Iterator[float]:
    """Gamma arrivals."""
    shape, arrival_s = cv**-2, 0.0
    for _ in range(n):
        arrival_s += draw.gammavariate(shape, 1 / (shape * rate_rps))
        yield arrival_s


Maker = Callable[[FleetConfig, float, int, int], Iterator[TraceRow]]
MADE: dict[str, Maker] = {"power-law": power_law, "mixed": mixed}
"""Traffic that is drawn, not read."""


def _rows(run: Run, config: FleetConfig, rate_rps: float) -> list[TraceRow]:
    case = run.case
    if case.name in MADE:
        return list(MADE[case.name](config, rate_rps, case.requests, run.seed))
    source = TraceSource(str(TRACES / f"{case.name}.parquet"))
    rows = list(source.shaped(Shape(limit=case.requests, rate_rps=rate_rps), run.seed).rows())
    return _spread(rows, Random(f"spread {run.seed}")) if case.stepped else rows


def _spread(rows: list[TraceRow], draw: Random) -> list[TraceRow]:
    """Those that were rounded to one instant come one after the other."""
    times = [row.arrival_s or 0.0 for row in rows]
    step_s = min((b - a for a, b in pairwise(times) if b > a), default=0.0)
    for row, arrival_s in zip(rows, times, strict=True):
        row.arrival_s = arrival_s + draw.uniform(0.0, step_s)
    return sorted(rows, key=lambda row: (row.arrival_s or 0.0, row.index))


def _config(case: Case, policy: str) -> FleetConfig:
    pool: dict[str, Any] = {"name": "m", "model": "m", "engine": "emulated"}
    pool |= {"hardware": "h100-llama-3.1-8b", "instances": case.instances}
    if case.name == "power-law":
        small = {"hardware": "a100-llama-3.1-8b", "n_blocks": 900, "max_waiting": 100_000}
        plain = {"admission": "always", "routing": "least-load", "batching": "fcfs"}
        return read_config(
            {
                "pool": [{**pool, **small}],
                "policy": {**plain, FAMILY: policy},
                "simulation": {"max_tokens": 0, "tick_s": 0.1},
            }
        )
    objectives = {
        "interactive": {"ttft_s": case.ttft_s, "tpot_s": 0.05},
        "task": {"deadline_s": 20.0 if case.name == "mixed" else 30.0},
        "batch": {},
    }
    mix = {"task": 0.3 if case.name == "mixed" else 0.2, "batch": 0.2}
    return read_config(
        {
            "pool": [pool],
            "policy": {FAMILY: policy},
            "objectives": objectives,
            "workload": {"default": "interactive", "mix": mix},
        }
    )


# ---------------------------------------------------------------- what comes of it


def play(run: Run, tell: Callable[[int], None]) -> dict[str, float]:
    """The figures of one run."""
    config = _config(run.case, run.policy)
    rate_rps = run.case.rate_rps * run.load_percent / 100
    rows, moves = _rows(run, config, rate_rps), Oscillations()
    begun_s = time.process_time()
    with _timed(config) as rounds_s:
        summary = simulate(
            config, rows, seed=run.seed, observers=[moves.observe], progress=tell
        ).summary
    cpu_s, n = time.process_time() - begun_s, len(rows)
    return {
        "goodput_rps": (summary.attainment or 0.0) * rate_rps,
        "p99_ttft_s": summary.ttft_s.p99 or 0.0,
        "moves": moves.moves / n,
        "preemptions": (summary.facts.preemptions or 0) / n,
        "back_per_1000": 1000 * sum(moves.counts.values()) / n,
        "cpu_us": 1e6 * cpu_s / n,
        "round_ms": 1e3 * median(rounds_s or [0.0]),
        "longest_round_ms": 1e3 * max(rounds_s, default=0.0),
    }


@contextmanager
def _timed(config: FleetConfig) -> Iterator[list[float]]:
    """Collects how long the policy takes for each of its rounds."""
    kind: Any = type(config.policy.build(FAMILY, 0))
    propose, took_s = kind.propose, []

    def timed(*arguments: Any) -> Any:
        begun_s = time.process_time()
        moves = propose(*arguments)
        took_s.append(time.process_time() - begun_s)
        return moves

    kind.propose = timed
    try:
        yield took_s
    finally:
        kind.propose = propose


def _results(
    runs: Sequence[Run], found: Sequence[dict[str, float]], args: argparse.Namespace
) -> list[dict[str, Any]]:
    """For each case and load the mean figures of each policy, over seeds."""
    cells: dict[tuple[str, float], dict[str, list[dict[str, float]]]] = {}
    for run, figures in zip(runs, found, strict=True):
        cell = cells.setdefault((run.case.name, run.load_percent), {})
        cell.setdefault(run.policy, []).append(figures)
    return [
        {
            "case": case,
            "load_percent": load,
            "policies": {
                name: {key: fmean(one[key] for one in seeds) for key in seeds[0]}
                for name, seeds in cell.items()
            },
        }
        for (case, load), cell in cells.items()
    ]


def _table(result: dict[str, Any]) -> Table:
    policies = result["policies"]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(f"{result['case']} at {result['load_percent']:g}%", min_width=22)
    for head in (
        "goodput/s",
        "of none",
        "p99 TTFT",
        "moves",
        "preempt",
        "back",
        "CPU µs",
        "round ms",
    ):
        table.add_column(head, justify="right")
    base = policies.get("none", {}).get("goodput_rps")
    for name, one in policies.items():
        table.add_row(
            name,
            f"{one['goodput_rps']:.2f}",
            f"{one['goodput_rps'] / base:.3f}" if base else "-",
            f"{one['p99_ttft_s']:.2f} s",
            f"{one['moves']:.3f}",
            f"{one['preemptions']:.3f}",
            f"{one['back_per_1000']:.1f}",
            f"{one['cpu_us']:.0f}",
            f"{one['round_ms']:.1f}, {one['longest_round_ms']:.0f}",
        )
    return table


if __name__ == "__main__":
    main()
