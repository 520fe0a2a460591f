"""`fairlead simulate`: plays a trace against a fleet in virtual time."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from fairlead.cli import log_window, results, trace_arguments
from fairlead.cli.results import Results
from fairlead.client.figures import Run
from fairlead.client.progress import Bar
from fairlead.model import ConfigError
from fairlead.observe.log import EventLog
from fairlead.observe.log_file import LogFile
from fairlead.observe.log_summary import log_summary
from fairlead.observe.log_trace import LogTrace
from fairlead.planner.cell import Cell, run_cell
from fairlead.planner.over_seeds import over_seeds
from fairlead.planner.pool import run_all
from fairlead.simulate.read_faults import read_faults
from fairlead.workload.shape import ShapedTrace, parse_window
from fairlead.workload.summary import Summary

EXAMPLES = f"""\
examples:
  a shipped slice of a real trace against eight H100s, at 150 requests a second:
    fairlead simulate azure-conv-slice --fleet examples/eight-h100.toml --rate 150

  with another policy, and beside the first run on one page:
    fairlead simulate azure-conv-slice --fleet examples/eight-h100.toml --rate 150 --out a.json
    fairlead simulate azure-conv-slice --fleet examples/eight-h100.toml --rate 150 \\
        --set policy.routing=round-robin --beside a.json --html page.html

  while machines die, networks part and clients leave:
    fairlead simulate azure-conv-slice --fleet examples/eight-h100.toml --rate 150 \\
        --faults examples/faults.toml

  why one request was late:
    fairlead simulate azure-conv-slice --fleet examples/eight-h100.toml --rate 150 --log run.log
    fairlead story run.log r17

  what the last minute of a gateway's event log would have been with another policy, on less:
    fairlead simulate --from-log events.log --last 1m --fleet fleet.toml \\
        --set policy.routing=dualmap --set pool.0.instances=6

{trace_arguments.TRACES}
Ctrl-C lets nothing more arrive, and sums up what had arrived by then; a second one stops at once.

exit status: 0 done; 1 ran, but no request finished, it was interrupted, or the result could not be
written; 2 could not run.
"""
DONE, DOES_NOT_HOLD = 0, 1


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "simulate",
        help="play a trace against a fleet in virtual time",
        description="Plays a trace against the fleet of a file in virtual time, by the code that "
        "serves, and sums up how many objectives were met.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    trace_arguments.add_trace(parser, or_log=True)
    fleet = parser.add_argument_group("the fleet")
    trace_arguments.add_fleet(fleet)
    fleet.add_argument(
        "--faults",
        metavar="FAULTS.toml",
        type=Path,
        help="what goes wrong meanwhile: see examples/faults.toml",
    )
    played = parser.add_argument_group("what is played")
    trace_arguments.add_shape(played)
    log_window.add_log_window(played)
    when = parser.add_argument_group("when")
    times = when.add_mutually_exclusive_group()
    times.add_argument("--speed", metavar="X", type=float, help="time runs X times as fast")
    times.add_argument(
        "--rate",
        metavar="R",
        type=float,
        help="stretch arrival times to a mean of R requests/s; Poisson where there are none",
    )
    trace_arguments.add_arrivals(when)
    trace_arguments.add_seeds(when)
    trace_arguments.add_jobs(when)
    group = parser.add_argument_group("results")
    results.add_results(group)
    group.add_argument(
        "--log", metavar="FILE", help="write every event and decision, for `fairlead story`"
    )


def run(args: argparse.Namespace) -> int:
    """Simulates; returns the exit status."""
    complaints = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    earlier = _from_log(args, complaints)
    cells = _cells(args)
    trace = cells[0].open()
    found = Results(args, complaints, "Simulation", earlier)
    try:
        with Bar(complaints, trace.n_rows * len(cells), args.quiet) as bar:
            if len(cells) == 1:
                summary = _one(cells[0], trace, args.log, bar, complaints)
            else:
                summary = _many(cells, trace_arguments.jobs(args), bar)
        if args.label:
            summary = summary.with_extra(label=args.label)
        if earlier:
            summary = summary.with_extra(as_it_was=earlier[0][1])
        label = args.label or ("simulated" if args.from_log else summary.facts.trace)
        written = found.show(label, summary)
    except KeyboardInterrupt:
        complaints.print("interrupted; nothing was written")
        return DOES_NOT_HOLD
    finally:
        found.give_up()
    return DONE if written and _holds(summary) else DOES_NOT_HOLD


def _from_log(args: argparse.Namespace, complaints: Console) -> list[Run]:
    """What really happened, where a log is played as it was; its window becomes the shape's."""
    if not args.from_log:
        if args.since or args.until or args.last:
            raise ConfigError("--since, --until and --last are for event logs (--from-log LOG).")
        return []
    log = LogTrace(Path(args.from_log))
    window = log_window.log_window(log, args)
    if window is not None:
        if args.window:
            raise ConfigError("--window and --since, --until, --last say the same; give one.")
        args.window = f"{window[0]!r}:{window[1]!r}"
    if log.n_guessed and not args.quiet:
        complaints.print(
            f"{log.n_guessed:,} of the log's {log.n_rows:,} requests did not finish; how long they "
            "would have been is drawn from those of their class that did"
        )
    if args.limit or args.rate or args.speed or args.arrivals or args.scale != 1:
        return []
    shown = parse_window(args.window) if args.window else None
    return [("as it was", log_summary(log, shown).to_json())]


def _cells(args: argparse.Namespace) -> list[Cell]:
    """One for each seed; only the first carries curves."""
    seeds = trace_arguments.seeds(args)
    if args.log and len(seeds) > 1:
        raise ConfigError("--log tells of one run; leave --seeds out.")
    first = Cell(
        trace_arguments.source(args.from_log or args.trace, args),
        trace_arguments.shape(args, args.rate, args.speed),
        trace_arguments.simulated_fleet(args.fleet, args.set),
        args.fleet.stem,
        seeds[0],
        trace_arguments.at_least("warmup", args.warmup, 0),
        read_faults(args.faults) if args.faults else None,
    )
    return [first, *(replace(first, seed=seed, detailed=False) for seed in seeds[1:])]


def _one(cell: Cell, trace: ShapedTrace, log: str | None, bar: Bar, complaints: Console) -> Summary:
    observers = [_event_log(Path(log), cell, complaints)] if log else []
    with _Interrupt(complaints).heard() as interrupt:
        try:
            return run_cell(
                cell,
                bar.requests,
                trace=trace,
                observers=[observer.observe for observer in observers],
                stop=interrupt.asked,
            )
        finally:
            for observer in observers:
                observer.close()


def _many(cells: Sequence[Cell], jobs: int, bar: Bar) -> Summary:
    """The first seed's Summary, with the intervals over all of them."""
    found = run_all(run_cell, cells, jobs, lambda n, done: bar.items(n, done, len(cells)))
    seeds = [cell.seed for cell in cells]
    return found[0].with_extra(over_seeds=over_seeds(seeds, [s.to_json() for s in found]))


def _event_log(path: Path, cell: Cell, complaints: Console) -> EventLog:
    about = {
        "trace": cell.trace.name,
        "fleet": cell.fleet,
        "policy": cell.config.policy.names(),
        "seed": cell.seed,
    }
    return EventLog(LogFile(path, about, complaints.print))


def _holds(summary: Summary) -> bool:
    return summary.requests["finished"] > 0 and not summary.extra.get("interrupted")


class _Interrupt:
    """The first Ctrl-C is an answer to `asked`; a second one has its usual effect."""

    def __init__(self, complaints: Console) -> None:
        self._complaints = complaints
        self._asked = False

    def asked(self) -> bool:
        return self._asked

    @contextmanager
    def heard(self) -> Iterator[_Interrupt]:
        try:
            usual = signal.signal(signal.SIGINT, self._first)
        except ValueError:  # not the main thread: whoever runs us handles signals
            yield self
            return
        self._usual = usual
        try:
            yield self
        finally:
            signal.signal(signal.SIGINT, usual)

    def _first(self, *_: object) -> None:
        self._asked = True
        signal.signal(signal.SIGINT, self._usual)
        self._complaints.print(
            "nothing more arrives, what is under way ends; Ctrl-C again stops at once"
        )
