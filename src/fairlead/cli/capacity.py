"""`fairlead capacity`: the highest request rate at which a fleet keeps its objectives."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from fairlead.cli import trace_arguments
from fairlead.cli.results import STDOUT, as_json
from fairlead.client.capacity_table import print_capacities
from fairlead.client.out_file import OutFile, WriteError
from fairlead.client.progress import Bar
from fairlead.model import ConfigError
from fairlead.planner.capacity import TOLERANCE, capacities
from fairlead.planner.cell import Cell
from fairlead.planner.grid import Variant
from fairlead.policies import registry

EXAMPLES = f"""\
examples:
  how much the fleet takes with 90% of all objectives met:
    fairlead capacity azure-conv-slice --fleet examples/eight-h100.toml

  how much it takes under several policies, with 99% met:
    fairlead capacity azure-conv-slice --fleet examples/eight-h100.toml --attain 0.99 \\
        --policies round-robin+fcfs,least-load+fcfs,prefix-load+slack --out capacity.json

A policy is named alone (least-load) or with others (least-load+fcfs, always+least-load+fcfs): one
of each family at most, the rest as the fleet file says.
The search doubles the rate until the objectives no longer hold, then bisects, always with the same
seed. It takes it that a higher rate never helps. A short trace at a high rate is over before a
queue can build up, so give it a long one.

{trace_arguments.TRACES}

exit status: 0 done; 1 some policy holds at no rate, it was interrupted, or the result could not be
written; 2 could not run.
"""
DONE, DOES_NOT_HOLD = 0, 1


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "capacity",
        help="the highest request rate at which a fleet keeps its objectives",
        description="Searches, by simulation, for the highest request rate at which a share of "
        "all requests still meets its objective.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    trace_arguments.add_trace(parser)
    trace_arguments.add_fleet(parser.add_argument_group("the fleet"))
    group = parser.add_argument_group("what is asked")
    group.add_argument(
        "--attain",
        metavar="SHARE",
        type=float,
        default=0.9,
        help="share of all requests that must meet their objective, default 0.9",
    )
    group.add_argument(
        "--policies", metavar="A,B+C", help="policies to search for; default: the fleet's own"
    )
    group.add_argument(
        "--tolerance",
        metavar="SHARE",
        type=float,
        default=TOLERANCE,
        help=f"how near the answer must be, default {TOLERANCE:g} of it",
    )
    group.add_argument(
        "--rate",
        metavar="R",
        type=float,
        help="where the search begins; default: the trace's own rate, else 1",
    )
    trace_arguments.add_arrivals(group)
    trace_arguments.add_seed(group)
    trace_arguments.add_shape(parser.add_argument_group("what is played"))
    results = parser.add_argument_group("results")
    trace_arguments.add_jobs(results)
    results.add_argument(
        "--warmup", metavar="S", type=float, default=0.0, help="leave out the first S seconds"
    )
    results.add_argument("--out", metavar="FILE", help="write the answers as JSON; - is stdout")
    results.add_argument("--quiet", action="store_true", help="no table and no progress")


def run(args: argparse.Namespace) -> int:
    """Searches; returns the exit status."""
    complaints = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    _check(args)
    variants = [_variant(args, changes) for changes in _policies(args.policies)]
    cell = _cell(args, variants[0])
    jobs = trace_arguments.jobs(args)
    out = OutFile(Path(args.out)) if args.out and args.out != STDOUT else None
    try:
        with Bar(complaints, None, args.quiet) as bar:
            found = capacities(
                variants,
                cell,
                args.attain,
                args.tolerance,
                jobs,
                lambda n, done: bar.items(n, done, len(variants)),
            )
        if args.out == STDOUT:
            print(as_json(found))
        if not args.quiet:
            print_capacities(found, stderr=args.out == STDOUT)
        if out is not None:
            out.write(as_json(found))
    except KeyboardInterrupt:
        complaints.print("interrupted; nothing was written")
        return DOES_NOT_HOLD
    except WriteError as error:
        complaints.print(f"error: {error}")
        return DOES_NOT_HOLD
    finally:
        if out is not None:
            out.give_up()
    return DONE if all(policy["rate_rps"] for policy in found["policies"]) else DOES_NOT_HOLD


def _check(args: argparse.Namespace) -> None:
    if not 0 < args.attain <= 1:
        raise ConfigError(f"--attain must be above 0 and at most 1, got {args.attain:g}.")
    if not 0 < args.tolerance < 1:
        raise ConfigError(f"--tolerance must be between 0 and 1, got {args.tolerance:g}.")


def _cell(args: argparse.Namespace, variant: Variant) -> Cell:
    """Where the search begins. A trace without times of its own is no mistake here."""
    source = trace_arguments.source(args.trace, args)
    start = trace_arguments.shape(args, args.rate)
    if args.rate is None:
        untimed = source.shaped(start, args.seed, timed=False)
        known = untimed.trace.has_arrivals and untimed.extent.last_s > untimed.extent.first_s
        start = replace(start, rate_rps=untimed.extent.rate_rps if known else 1.0)
    source.shaped(start, args.seed)
    warmup_s = trace_arguments.at_least("warmup", args.warmup, 0)
    return Cell(source, start, variant.config, args.fleet.stem, args.seed, warmup_s)


def _variant(args: argparse.Namespace, changes: Mapping[str, str]) -> Variant:
    told = [*args.set, *(f"{key}={value}" for key, value in changes.items())]
    return Variant(changes, trace_arguments.simulated_fleet(args.fleet, told))


def _policies(text: str | None) -> list[dict[str, str]]:
    """`a,b+c` as changes to a fleet file. Without any, no change."""
    if text is None:
        return [{}]
    return [_policy(names.strip()) for names in text.split(",")]


def _policy(names: str) -> dict[str, str]:
    families = {
        entry.name: [e.family for e in registry.entries() if e.name == entry.name]
        for entry in registry.entries()
    }
    changes: dict[str, str] = {}
    for name in names.split("+"):
        name = name.strip()
        if name not in families:
            raise ConfigError(
                f"--policies: no policy is called {name!r}{registry.suggest(name, list(families))}"
            )
        if len(families[name]) > 1:
            raise ConfigError(
                f"--policies: {name!r} is the name of a policy of {' and of '.join(families[name])}"
                "; say which with --set"
            )
        key = f"policy.{families[name][0]}"
        if key in changes:
            raise ConfigError(
                f"--policies: {changes[key]!r} and {name!r} are both {families[name][0]} policies; "
                "name one of each family, and separate alternatives by a comma"
            )
        changes[key] = name
    return changes
