"""`fairlead compare`: a grid of simulations, as a table, a file and a page."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from fairlead.cli import trace_arguments
from fairlead.cli.results import as_json, command_line
from fairlead.client.axes import require_matplotlib
from fairlead.client.comparison_page import comparison_page
from fairlead.client.comparison_table import print_comparison
from fairlead.client.out_file import OutFile, WriteError
from fairlead.client.progress import Bar
from fairlead.model import ConfigError
from fairlead.planner.grid import Axis, Column, Grid, Variant, combinations, compare, parse_axis
from fairlead.planner.rates import parse_rates
from fairlead.planner.source import TraceSource

EXAMPLES = f"""\
examples:
  three ways to route and two to batch, at three rates:
    fairlead compare azure-conv-slice --fleet examples/eight-h100.toml --rate 100,150,200 \\
        --vary policy.routing=round-robin,least-load,prefix-load \\
        --vary policy.batching=fcfs,slack --out out/

  two traces that need rates of their own, five seeds:
    fairlead compare azure2023_conv.parquet mooncake_conversation.parquet \\
        --fleet examples/eight-h100.toml --rate 150 --rate mooncake_conversation=10,15 \\
        --vary policy.routing=round-robin,prefix-load --seeds 5 --out out/

  how many instances it takes (any key of the fleet file can be varied):
    fairlead compare azure-conv-slice --fleet examples/eight-h100.toml --rate 150 \\
        --vary pool.0.instances=4,6,8

{trace_arguments.TRACES}
--rate R1,R2 goes for every trace that has no rates of its own; TRACE=R1,R2 names one by its file's
name without the ending. A trace without any rate is played at its own pace.
--out DIR gets summary.json and index.html, a page that needs nothing beside itself.

exit status: 0 done; 1 it was interrupted, or the result could not be written; 2 could not run.
"""
DONE, DOES_NOT_HOLD = 0, 1


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "compare",
        help="a grid of simulations: policies, rates, traces, fleets",
        description="Simulates every trace at every rate under every combination of what is "
        "varied, and shows who kept the most objectives.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("traces", metavar="TRACE", nargs="+", help="trace files, or shipped names")
    trace_arguments.add_fleet(parser.add_argument_group("the fleet"))
    group = parser.add_argument_group("what is varied")
    group.add_argument(
        "--vary",
        metavar="KEY=A,B",
        action="append",
        default=[],
        help="a key of the fleet file, as for --set, and its values; may be given again, and then "
        "every combination is run",
    )
    group.add_argument(
        "--rate",
        metavar="[TRACE=]R1,R2",
        action="append",
        default=[],
        help="mean request rates; may be given again for single traces",
    )
    trace_arguments.add_arrivals(group)
    trace_arguments.add_seeds(group)
    trace_arguments.add_shape(parser.add_argument_group("what is played"))
    _add_results(parser.add_argument_group("results"))


def _add_results(group: argparse._ArgumentGroup) -> None:
    trace_arguments.add_jobs(group)
    group.add_argument(
        "--warmup", metavar="S", type=float, default=0.0, help="leave out the first S seconds"
    )
    group.add_argument("--out", metavar="DIR", type=Path, help="a folder for page and file")
    group.add_argument("--quiet", action="store_true", help="no table and no progress")


def run(args: argparse.Namespace) -> int:
    """Simulates the grid; returns the exit status."""
    complaints = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    grid, jobs = _grid(args), trace_arguments.jobs(args)
    n_requests, n_cells = grid.check(), len(grid.cells())
    out = _Folder(args.out) if args.out else None
    done = 0

    def progress(n: int, so_far: int) -> None:
        nonlocal done
        done = so_far
        bar.items(n, so_far, n_cells)

    try:
        with Bar(complaints, n_requests, args.quiet) as bar:
            comparison = compare(grid, jobs, progress)
        if not args.quiet:
            print_comparison(comparison)
        if out is not None:
            out.write(comparison, args.quiet)
    except KeyboardInterrupt:
        complaints.print(
            f"interrupted with {done} of {n_cells} simulations done; nothing was written"
        )
        return DOES_NOT_HOLD
    except WriteError as error:
        complaints.print(f"error: {error}")
        return DOES_NOT_HOLD
    finally:
        if out is not None:
            out.give_up()
    return DONE


def _grid(args: argparse.Namespace) -> Grid:
    """All that is wrong with what was asked for shows here, before anything runs."""
    sources = [trace_arguments.source(name, args) for name in args.traces]
    axes = [parse_axis(text) for text in args.vary]
    columns = _columns(sources, parse_rates(args.rate, args.traces))
    return Grid(
        columns=columns,
        variants=_variants(args, axes),
        axes=axes,
        # Each column has its own rate; arrivals that are drawn need one from the start.
        shape=trace_arguments.shape(args, columns[0].rate_rps),
        seeds=trace_arguments.seeds(args),
        fleet=args.fleet.stem,
        warmup_s=trace_arguments.at_least("warmup", args.warmup, 0),
    )


def _columns(
    sources: Sequence[TraceSource], rates: Mapping[str, Sequence[float | None]]
) -> list[Column]:
    return [Column(source, rate) for source in sources for rate in rates[source.name]]


def _variants(args: argparse.Namespace, axes: Sequence[Axis]) -> list[Variant]:
    return [
        Variant(
            changes,
            trace_arguments.simulated_fleet(
                args.fleet, [*args.set, *(f"{key}={value}" for key, value in changes.items())]
            ),
        )
        for changes in combinations(axes)
    ]


class _Folder:
    """Where page and file go; made sure of before anything runs."""

    def __init__(self, path: Path) -> None:
        require_matplotlib()
        self.path = path
        self._made = not path.exists()
        self._files: list[OutFile] = []
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot make the folder {path}: {error.strerror}.") from error
        try:
            for name in ("summary.json", "index.html"):
                self._files.append(OutFile(path / name))
        except ConfigError:
            self.give_up()
            raise

    def write(self, comparison: dict[str, Any], quiet: bool) -> None:
        summary, page = self._files
        summary.write(as_json(comparison))
        page.write(comparison_page(comparison, command_line()))
        if not quiet:
            print(f"wrote {page.path} and {summary.path}")

    def give_up(self) -> None:
        """Leaves no trace of what was not written."""
        for file in self._files:
            file.give_up()
        if self._made and not any(self.path.iterdir()):
            self.path.rmdir()
