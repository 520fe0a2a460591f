"""Which routing policy keeps the most promises? Goodput per policy from half of a fleet's capacity
to half again as much, on five traces, with 8 and with 64 simulated H100s.

    python benchmarks/routing.py                  all of it; hours of CPU time, so see --jobs
    python benchmarks/routing.py --instances 8    an eighth of that
    python benchmarks/routing.py --quick          a few requests of each trace: does it run?
    python benchmarks/routing.py --traces azure2023_conv --policies round-robin,dualmap
    python benchmarks/routing.py --default-rest   with the default batching and admission policies

Goodput is the share of requests that met their objective, times the rate at which requests came:
what a run takes to end after its last arrival does not count, nor, of sessions whose calls follow
on each other, what comes when the last of them has begun. 100% is the rate at which the
default policy meets nine in ten objectives on eight instances, times the number of eights.

A larger fleet gets copies of the trace that have no prefix in common, each a little later than the
one before: the prefixes of one customer do not become hotter because there are more customers.
`taubench_airline` is so small that eight instances get copies too.

The traces lie in ../shared/traces; those that are absent are left out. Runs do not depend on the
machine: equal arguments, equal figures.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich import box
from rich.console import Console
from rich.table import Table

from fairlead import __version__
from fairlead.cli.fleet_file import read_fleet_file
from fairlead.client.progress import Bar
from fairlead.fleet.config import FleetConfig, PolicyConfig
from fairlead.instance import decoding
from fairlead.planner.capacity import Search, search
from fairlead.planner.cell import Cell
from fairlead.planner.grid import Column, Grid, Variant, compare
from fairlead.planner.pool import run_all
from fairlead.planner.source import TraceSource
from fairlead.policies import registry
from fairlead.workload.generate.lengths import Exponential
from fairlead.workload.shape import Shape

HERE = Path(__file__).parent
TRACES = HERE.parent.parent / "shared" / "traces"
FLEET = HERE.parent / "examples" / "eight-h100.toml"
PLAIN = ("policy.batching=fcfs", "policy.admission=always", "policy.rescheduling=none")
DEFAULT = PolicyConfig().routing
ATTAIN, TOLERANCE = 0.9, 0.03
EIGHT = 8
APART_S = 10.0
"""Copies of a trace follow each other within this time."""
QUICK_REQUESTS = 120


@dataclass(frozen=True, slots=True)
class Case:
    """How a trace is played."""

    name: str
    ttft_s: float
    """What interactive requests are promised: one second, and five where prompts are long."""
    start_rps: float
    """Where the search for the capacity begins."""
    requests: int
    """Played on eight instances."""
    step_s: float = 0.0
    """Arrivals are rounded to so much in the source, and are spread again."""
    copies: int = 1
    """For eight instances."""
    tpot_s: float = 0.05
    part: float = 0.25
    """What each eight of a larger fleet play of this: in all no less than eight would."""


CASES = (
    Case("rtp_online", 1.0, 24.0, 4000),
    Case("mooncake_conversation", 5.0, 7.0, 3000, step_s=3.0),
    Case("mooncake_synthetic", 5.0, 12.0, 2599),
    Case("azure2023_conv", 1.0, 300.0, 13826),
    # Somebody waits for each of an agent's many calls, so these are promised more. Sessions take
    # half a minute to fill a fleet, however large, so there are no fewer for each eight.
    Case("taubench_airline", 0.2, 24.0, 40000, copies=32, tpot_s=0.02, part=1.0),
)
PAUSE_S = 0.2
"""Mean time between the calls of a session: tools, and customers that are programs too."""


def main() -> None:
    args = _arguments()
    console = Console(width=max(Console().width, 100), highlight=False)
    cases = [case for name in args.traces for case in _present(name)]
    _print_parameters(args)
    begun_s, results = time.perf_counter(), []
    with tempfile.TemporaryDirectory(prefix="fairlead-routing-") as folder:
        capacities = _capacities(cases, Path(folder), args)
        for n_instances in args.instances:
            for case, capacity_rps in zip(cases, capacities, strict=True):
                rate_rps = capacity_rps * n_instances / EIGHT
                grid = _grid(case, n_instances, rate_rps, Path(folder), args)
                found = _run(grid, args)
                results.append(_result(case, n_instances, rate_rps, found, args))
                _print_result(results[-1], console)
    if len(results) > 1:
        _print_overview(results, console)
    print(f"{time.perf_counter() - begun_s:.0f} s in {args.jobs} processes")
    if args.out:
        args.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    everyone = [entry.name for entry in registry.entries() if entry.family == "routing"]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few requests: does it run?")
    parser.add_argument("--traces", type=_words, default=[case.name for case in CASES])
    parser.add_argument("--policies", type=_words, default=everyone, help="default: all of them")
    parser.add_argument("--instances", type=_numbers, default=[8, 64])
    parser.add_argument(
        "--loads", type=_numbers, default=[50, 75, 100, 125, 150], help="in percent"
    )
    parser.add_argument("--requests", type=int, help="for eight instances, of every trace")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--default-rest", action="store_true", help="not fcfs and always")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, help="all figures as JSON")
    args = parser.parse_args()
    if DEFAULT not in args.policies:
        args.policies.append(DEFAULT)
    if args.quick:
        args.requests = args.requests or QUICK_REQUESTS
    return args


def _words(text: str) -> list[str]:
    return text.split(",")


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _present(name: str) -> list[Case]:
    """The trace's case; none where the trace is not here."""
    path = TRACES / f"{name}.parquet"
    found = [case for case in CASES if case.name == name and path.exists()]
    if not found:
        known = ", ".join(case.name for case in CASES)
        print(f"{name}: left out; {path} is not here, or it is none of {known}")
    return found


def _print_parameters(args: argparse.Namespace) -> None:
    compiled = "compiled" if str(decoding.__file__).endswith(".so") else "pure Python"
    print(f"fairlead {__version__}, core: {compiled}, Python {sys.version.split()[0]}")
    rest = "the fleet file's" if args.default_rest else ", ".join(PLAIN)
    print(f"fleet: {FLEET.name}; batching and admission: {rest}; seed {args.seed}")
    print(f"100%: {DEFAULT} meets {ATTAIN:.0%} of all objectives on {EIGHT} instances")
    for name in args.policies:
        params = registry.find("routing", name).params()
        shown = ", ".join(f"{k}={v}" for k, v in dataclasses.asdict(params).items())
        print(f"  {name}: {shown or 'no parameters'}")


# ---------------------------------------------------------------- what is played


def _copies(case: Case, n_instances: int, folder: Path, seed: int) -> TraceSource:
    """The trace as often as the fleet needs it, in a file of its own."""
    n = max(case.copies * n_instances // EIGHT, 1)
    path = folder / str(n_instances) / f"{case.name}.parquet"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        table = pq.read_table(TRACES / f"{case.name}.parquet")
        rng = np.random.default_rng(seed)
        copies = pa.concat_tables([_copy(case, table, k, n, rng) for k in range(n)])
        order = "arrival_s" if "arrival_s" in table.column_names else "start"
        copies = copies.sort_by([(order, "ascending")])
        pq.write_table(copies.replace_schema_metadata(table.schema.metadata), path)
    return TraceSource(str(path))


def _copy(case: Case, table: pa.Table, k: int, n: int, rng: np.random.Generator) -> pa.Table:
    """The k-th of n, with prefixes and sessions of its own."""
    if "hash_ids" in table.column_names:
        ids = table["hash_ids"].combine_chunks()
        flat = pc.cast(ids.flatten(), pa.int64())
        moved = pc.add(flat, k * (1 + (pc.max(flat).as_py() or 0)))
        ids = pa.ListArray.from_arrays(ids.offsets, moved)
        table = _with(table, "hash_ids", ids)
    if "arrival_s" in table.column_names:
        late_s = k * APART_S / n + rng.uniform(0, case.step_s, len(table))
        return _with(table, "arrival_s", pa.array(table["arrival_s"].to_numpy() + late_s))
    # Sessions take turns among the copies, and their calls stay together.
    names = table["session_id"].to_pylist()
    start = {name: i * n + k for i, name in enumerate(dict.fromkeys(names))}
    table = _with(table, "session_id", pa.array([f"{name} {k}" for name in names]))
    return table.append_column("start", pa.array([start[name] for name in names]))


def _with(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def _config(case: Case, n_instances: int, routing: str, args: argparse.Namespace) -> FleetConfig:
    changes = [
        f"pool.0.instances={n_instances}",
        f"objectives.interactive.ttft_s={case.ttft_s}",
        f"objectives.interactive.tpot_s={case.tpot_s}",
        f"policy.routing={routing}",
        *(() if args.default_rest else PLAIN),
    ]
    return read_fleet_file(FLEET, changes)[0]


def _shape(case: Case, n_instances: int, args: argparse.Namespace) -> Shape:
    eights = n_instances / EIGHT
    n = (args.requests or case.requests) * max(eights * case.part, min(eights, 1))
    return Shape(limit=max(int(n), 1), rate_rps=case.start_rps, think=Exponential(PAUSE_S))


# ---------------------------------------------------------------- runs


def _capacities(cases: Sequence[Case], folder: Path, args: argparse.Namespace) -> list[float]:
    """The rate of each trace at which eight instances with the default policy just hold."""
    searches = [
        Search(
            Cell(
                _copies(case, EIGHT, folder, args.seed),
                _shape(case, EIGHT, args),
                _config(case, EIGHT, DEFAULT, args),
                seed=args.seed,
            ),
            case.name,
            ATTAIN,
            TOLERANCE,
        )
        for case in cases
    ]
    with Bar(Console(stderr=True), None) as bar:
        found = run_all(
            search, searches, args.jobs, lambda n, done: bar.items(n, done, len(searches))
        )
    return [
        capacity.highest.rate_rps if capacity.highest else case.start_rps
        for case, capacity in zip(cases, found, strict=True)
    ]


def _grid(
    case: Case, n_instances: int, rate_rps: float, folder: Path, args: argparse.Namespace
) -> Grid:
    source = _copies(case, n_instances, folder, args.seed)
    variants = [
        Variant({"policy.routing": name}, _config(case, n_instances, name, args))
        for name in args.policies
    ]
    columns = [Column(source, rate_rps * load / 100) for load in args.loads]
    return Grid(columns, variants, (), _shape(case, n_instances, args), [args.seed], FLEET.stem)


def _run(grid: Grid, args: argparse.Namespace) -> list[dict[str, Any]]:
    n_requests, n_cells = grid.check(), len(grid.cells())
    with Bar(Console(stderr=True), n_requests) as bar:
        found = compare(grid, args.jobs, lambda n, done: bar.items(n, done, n_cells))
    cells: list[dict[str, Any]] = found["cells"]
    return cells


def _result(
    case: Case,
    n_instances: int,
    rate_rps: float,
    cells: Sequence[dict[str, Any]],
    args: argparse.Namespace,
) -> dict[str, Any]:
    """Goodput by policy and load, and how the default compares to the best of the others."""
    n = len(args.policies)
    columns = [cells[start : start + n] for start in range(0, len(cells), n)]
    goodput = {
        name: [_goodput_rps(column[i]["summary"]) for column in columns]
        for i, name in enumerate(args.policies)
    }
    others = [name for name in args.policies if name != DEFAULT]
    best = [max((goodput[name][i] for name in others), default=0.0) for i in range(len(columns))]
    ratio = [mine / it if it else None for mine, it in zip(goodput[DEFAULT], best, strict=True)]
    return {
        "trace": case.name,
        "instances": n_instances,
        "requests": cells[0]["summary"]["requests"]["total"],
        "ttft_s": case.ttft_s,
        "tpot_s": case.tpot_s,
        "sessions": cells[0]["summary"]["simulation"]["closed_loop"],
        "capacity_rps": rate_rps,
        "loads_percent": args.loads,
        "goodput_rps": goodput,
        "hit_ratio": {
            name: [column[i]["summary"]["prefix_hit_ratio"] for column in columns]
            for i, name in enumerate(args.policies)
        },
        "default_to_best_other": ratio,
        "digests": {
            name: [column[i]["summary"]["digest"] for column in columns]
            for i, name in enumerate(args.policies)
        },
    }


def _goodput_rps(summary: dict[str, Any]) -> float:
    return float(summary["simulation"]["goodput_rps"] or 0.0)


# ---------------------------------------------------------------- tables


def _print_result(result: dict[str, Any], console: Console) -> None:
    unit = "sessions/s" if result["sessions"] else "requests/s"
    console.print(
        f"\n{result['trace']}, {result['instances']} instances, {result['requests']:,} requests, "
        f"interactive TTFT {result['ttft_s']:g} s and TPOT {result['tpot_s']:g} s; "
        f"100% = {result['capacity_rps']:.4g} {unit}",
        style="bold",
        soft_wrap=True,
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("goodput, requests/s")
    for load in result["loads_percent"]:
        table.add_column(f"{load}%", justify="right")
    table.add_column("cached", justify="right")
    goodput = result["goodput_rps"]
    best = [max(column) for column in zip(*goodput.values(), strict=True)]
    for name in sorted(goodput, key=lambda name: (-sum(_shares(goodput[name], best)), name)):
        marked = [
            f"{'*' if value == most else ''}{value:.4g}"
            for value, most in zip(goodput[name], best, strict=True)
        ]
        hits = [ratio for ratio in result["hit_ratio"][name] if ratio is not None]
        cached = f"{sum(hits) / len(hits):.0%}" if hits else "-"
        style = "bold" if name == DEFAULT else None
        table.add_row(name, *marked, cached, style=style)
    table.add_section()
    table.add_row(f"{DEFAULT} / best other", *map(_ratio, result["default_to_best_other"]), "")
    console.print(table)


def _shares(values: Sequence[float], best: Sequence[float]) -> list[float]:
    return [value / most if most else 1.0 for value, most in zip(values, best, strict=True)]


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _print_overview(results: Sequence[dict[str, Any]], console: Console) -> None:
    """The default against the best other on all traces."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(f"{DEFAULT} / best other")
    table.add_column("n", justify="right")
    for load in results[0]["loads_percent"]:
        table.add_column(f"{load}%", justify="right")
    for result in results:
        ratios = map(_ratio, result["default_to_best_other"])
        table.add_row(result["trace"], str(result["instances"]), *ratios)
    console.print(table)


if __name__ == "__main__":
    main()
