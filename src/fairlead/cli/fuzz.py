"""`make fuzz`: looks for seeds that break an invariant. For those who work on Fairlead itself."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from fairlead.cli.trace_arguments import jobs
from fairlead.model import FairleadError
from fairlead.planner.pool import run_all
from fairlead.simulate.fuzz import Failure, attempt, explain, fuzz, play
from fairlead.simulate.scenario import draw
from fairlead.simulate.shrink import shrink

EXAMPLES = """\
examples:
  a thousand seeds, each with a fleet, traffic, policies and faults of its own:
    make fuzz N=1000

  one seed, with everything there is to say about it:
    make fuzz SEED=123

exit status: 0 every invariant held; 1 some seed broke one; 2 could not run.
"""
CHUNK = 20
"""Seeds that a process takes at a time."""
EXPLAINED = 3
"""Failures that are told at length; the others are told by their seed."""
LISTED = 20
HELD, BROKEN, COULD_NOT = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    out = Console(soft_wrap=True, highlight=False, markup=False)
    try:
        if args.digest:
            return _digests(_seeds(args), out)
        return _one(args.seed, out) if args.n is None else _many(args, out)
    except FairleadError as error:
        Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(f"error: {error}")
        return COULD_NOT
    except KeyboardInterrupt:
        out.print("interrupted")
        return BROKEN


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make fuzz",
        description="Draws a fleet, traffic, policies and faults from each seed, simulates them, "
        "and checks every invariant of docs/invariants.md.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=0, help="the seed, or the first of --n")
    parser.add_argument("--n", type=int, help="how many seeds; left out: one, told at length")
    parser.add_argument("--jobs", type=int, help="processes at once; default: the machine's cores")
    parser.add_argument("--digest", action="store_true", help="print the digest of each run")
    return parser


def _seeds(args: argparse.Namespace) -> range:
    return range(args.seed, args.seed + (1 if args.n is None else args.n))


def _digests(seeds: Sequence[int], out: Console) -> int:
    for seed in seeds:
        out.print(f"{seed} {play(draw(seed)).digest}")
    return HELD


def _one(seed: int, out: Console) -> int:
    scenario = draw(seed)
    out.print(explain(scenario))
    if attempt(scenario) is None:
        return HELD
    small = shrink(scenario, lambda candidate: attempt(candidate) is not None)
    out.print(f"\n{'-' * 40}\nmade smaller, it still breaks:\n\n{explain(small)}")
    return BROKEN


def _many(args: argparse.Namespace, out: Console) -> int:
    seeds = _seeds(args)
    chunks = [seeds[i : i + CHUNK] for i in range(0, len(seeds), CHUNK)]
    with _bar(Console(stderr=True), len(seeds)) as show:
        found = run_all(fuzz, chunks, jobs(args), lambda n, done: show(n))
    failures = [failure for part in found for failure in part]
    for failure in failures[:EXPLAINED]:
        out.print(f"{_headline(failure)}\n\n{_smaller(failure.seed)}\n\n{'-' * 40}")
    for failure in failures[:LISTED]:
        out.print(_headline(failure))
    if len(failures) > LISTED:
        out.print(f"and {len(failures) - LISTED} more")
    out.print(f"{len(seeds):,} seeds from {args.seed} on: {len(failures)} broke an invariant")
    return BROKEN if failures else HELD


def _headline(failure: Failure) -> str:
    return f"seed {failure.seed}: {failure.what}\n  again: make fuzz SEED={failure.seed}"


def _smaller(seed: int) -> str:
    small = shrink(draw(seed), lambda candidate: attempt(candidate) is not None)
    return f"made smaller:\n\n{explain(small)}"


@contextmanager
def _bar(console: Console, total: int) -> Iterator[Callable[[int], None]]:
    """Shows how many seeds were played, where there is a terminal."""
    columns = (TextColumn("seeds"), BarColumn(bar_width=24), TextColumn("{task.completed:,}"))
    with Progress(
        *columns,
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("", total=total)
        yield lambda n: progress.update(task, completed=n)


if __name__ == "__main__":
    sys.exit(main())
