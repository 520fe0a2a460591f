"""`fairlead workload describe`: what a trace is like."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.console import Console

from fairlead.cli.description_table import WIDTH, description_table
from fairlead.client.progress import Bar
from fairlead.model import ConfigError
from fairlead.planner.source import TraceSource
from fairlead.workload.describe import describe
from fairlead.workload.layouts import parse_columns
from fairlead.workload.shape import Shape, parse_window, selected
from fairlead.workload.trace import SHIPPED, Trace

EXAMPLES = f"""\
examples:
  fairlead workload describe azure-conv-slice
  fairlead workload describe trace.parquet --window 3600:7200
  fairlead workload describe own.csv --columns arrival=ts,prompt=in,output=out --json

TRACE is a Parquet, CSV or JSONL file, or a name: {", ".join(SHIPPED)}.

"Busiest" compares the most requests of any second (minute) with the mean. A CV of gaps of 1 is
Poisson traffic, above it bursts. Prefix blocks "there before" are what a cache that never evicts
would have hit, started empty at the first row.

exit status: 0 done; 2 could not run.
"""
SAID = ("source", "licence", "clock", "window", "note")
"""What of a file's metadata is shown."""


def add_parser(actions: Any) -> None:
    parser = actions.add_parser(
        "describe",
        help="what a trace is like",
        description="Says what a trace is like: load over time, lengths, sessions, tenants, shared "
        "prefixes, and what was left out and why.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("trace", metavar="TRACE", help="a trace file, or the name of a shipped one")
    parser.add_argument("--window", metavar="A:B", help="only rows between two times, in seconds")
    parser.add_argument("--limit", metavar="N", type=int, help="only the first N rows")
    parser.add_argument(
        "--columns", metavar="NAME=COLUMN,…", help="as in arrival=ts,prompt=in,output=out"
    )
    parser.add_argument("--sort", action="store_true", help="sort the rows by arrival, in memory")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run_action=run)


def run(args: argparse.Namespace) -> int:
    """Prints the description; returns the exit status."""
    columns = parse_columns(args.columns) if args.columns else None
    shape = Shape(parse_window(args.window) if args.window else None, args.limit)
    trace = TraceSource(args.trace, columns, args.sort).open()
    found = _found(trace, shape)
    if args.json:
        print(json.dumps(found, indent=1))
        return 0
    notes = {name: trace.metadata[name] for name in SAID if trace.metadata.get(name)}
    console = Console(width=WIDTH, highlight=False)
    title = f"{trace.path.name} · {trace.layout.name} layout"
    console.print(description_table(title, found, notes))
    return 0


def _found(trace: Trace, shape: Shape) -> dict[str, Any]:
    if shape.window_s is not None and not trace.has_arrivals:
        raise ConfigError(f"--window needs arrival times, and {trace.path} has none.")
    with Bar(Console(stderr=True), shape.limit or trace.n_rows) as bar:
        found = describe(selected(trace, shape), bar.requests).to_json()
    if not found["rows"]:
        why = "; ".join(f"{n:,} rows left out: {why}" for why, n in trace.skipped.items())
        raise ConfigError(f"{trace.path} has no row to describe. {why}".strip())
    return {
        "trace": trace.name,
        "layout": trace.layout.name,
        **found,
        "skipped": dict(trace.skipped),
        "metadata": dict(trace.metadata),
    }
