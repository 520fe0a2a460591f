"""The arguments that say which trace is played, which part of it, and against which fleet: common
to the commands that play traces."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from fairlead.cli import fleet_file
from fairlead.fleet.config import FleetConfig
from fairlead.model import ConfigError
from fairlead.planner.source import TraceSource
from fairlead.workload.layouts import parse_columns
from fairlead.workload.shape import Shape, parse_window
from fairlead.workload.trace import SHIPPED

TRACES = f"""\
TRACE is a Parquet, CSV or JSONL file, or a name: {", ".join(SHIPPED)}. The layouts of the Azure,
BurstGPT and Mooncake traces are known; for others name the columns with --columns. An event log
([gateway] event_log, or --log) is a trace, too."""
"""For the end of a command's help."""


def add_trace(parser: argparse.ArgumentParser, or_log: bool = False) -> None:
    """With `or_log` there may be a log in its place, and there is one of the two."""
    told = "a trace file, or the name of a shipped one"
    if not or_log:
        parser.add_argument("trace", metavar="TRACE", help=told)
        return
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("trace", metavar="TRACE", nargs="?", help=told)
    group.add_argument(
        "--from-log",
        metavar="LOG",
        help="in place of TRACE: what a gateway's event log saw, beside what came of it there",
    )


def add_shape(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--window", metavar="A:B", help="only rows between two times, in seconds")
    group.add_argument("--limit", metavar="N", type=int, help="only the first N rows")
    group.add_argument(
        "--scale", metavar="F", type=float, default=1.0, help="multiply all lengths by F"
    )
    group.add_argument(
        "--columns", metavar="NAME=COLUMN,…", help="as in arrival=ts,prompt=in,output=out"
    )
    group.add_argument("--sort", action="store_true", help="sort the rows by arrival, in memory")


def add_arrivals(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--arrivals",
        metavar="PROCESS",
        help="draw arrivals from the seed instead of keeping the trace's, as in poisson or "
        "gamma:cv=3; `fairlead workload make --help` lists them",
    )


def add_seed(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--seed", metavar="N", type=int, default=0, help="default 0")


def add_seeds(group: argparse._ArgumentGroup) -> None:
    add_seed(group)
    group.add_argument(
        "--seeds",
        metavar="N",
        type=int,
        default=1,
        help="run N seeds, from --seed on, and give figures as mean ± 95%% interval; a seed draws "
        "which request is of which objective, and arrivals where they are drawn",
    )


def add_jobs(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--jobs", metavar="N", type=int, help="processes at once; default: the machine's cores"
    )


def add_fleet(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--fleet", metavar="FLEET.toml", type=Path, required=True, help="the fleet file"
    )
    fleet_file.add_set(group)


def source(name: str, args: argparse.Namespace) -> TraceSource:
    columns = parse_columns(args.columns) if args.columns else None
    return TraceSource(name, columns, args.sort)


def shape(
    args: argparse.Namespace, rate_rps: float | None = None, speed: float | None = None
) -> Shape:
    return Shape(
        window_s=parse_window(args.window) if args.window else None,
        limit=args.limit,
        lengths=args.scale,
        rate_rps=rate_rps,
        speed=1.0 if speed is None else speed,
        process=args.arrivals,
    )


def simulated_fleet(path: Path, changes: Sequence[str]) -> FleetConfig:
    """The fleet of a file, with the changes in it, which a simulation can take."""
    return fleet_file.read_fleet_file(path, changes)[0]


def seeds(args: argparse.Namespace) -> list[int]:
    n = at_least("seeds", args.seeds, 1)
    return list(range(args.seed, args.seed + int(n)))


def jobs(args: argparse.Namespace) -> int:
    return int(at_least("jobs", (os.cpu_count() or 1) if args.jobs is None else args.jobs, 1))


def at_least(name: str, value: float, least: float) -> float:
    if not value >= least:
        raise ConfigError(f"--{name} must be at least {least:g}, got {value:g}.")
    return value


def above_0(name: str, value: float | None) -> None:
    if value is not None and not value > 0:
        raise ConfigError(f"--{name} must be above 0, got {value:g}.")
