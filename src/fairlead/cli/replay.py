"""`fairlead replay`: plays a trace against any OpenAI-compatible server."""

from __future__ import annotations

import argparse
import asyncio
import os
from functools import partial
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console

from fairlead.cli import results, trace_arguments
from fairlead.cli.fleet_file import read_fleet_file
from fairlead.cli.results import Results
from fairlead.client.body import Api
from fairlead.client.player import Pace
from fairlead.client.progress import show_progress
from fairlead.client.replay import Replay, WantedObjectives
from fairlead.model import ConfigError, FairleadError
from fairlead.workload.objectives import parse_mix, parse_objective
from fairlead.workload.prompts import Vocabulary
from fairlead.workload.shape import ShapedTrace
from fairlead.workload.summary import Summary

EXAMPLES = f"""\
examples:
  the shipped slice of a real trace at two requests a second, judged by the fleet's objectives:
    fairlead replay azure-conv-slice --url http://127.0.0.1:8000 --rate 2 --out s.json

  the second minute of a trace at its own pace, with a page of plots:
    fairlead replay trace.parquet --url http://127.0.0.1:8000 --window 60:120 \\
        --objective interactive:ttft=1,tpot=0.05 --html page.html --out s.json

  256 streams for a minute, each checked for repeated or missing tokens:
    fairlead replay azure-conv-slice --url http://127.0.0.1:8000 --concurrency 256 \\
        --duration 60 --check-positions --out s.json

  beside an earlier run, in one table and on one page:
    fairlead replay azure-conv-slice --url http://127.0.0.1:8000 --rate 2 --label default \\
        --beside round-robin.json --html both.html --out default.json

{trace_arguments.TRACES}
Latencies count from when a request was due, so a late client shows, and says so.

exit status: 0 done; 1 ran, but a token was repeated or missing, no request finished, the replay was
interrupted, or the result could not be written; 2 could not run.
"""

DONE, DOES_NOT_HOLD, COULD_NOT_RUN = 0, 1, 2


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "replay",
        help="play a trace against any OpenAI-compatible server",
        description="Plays a trace against any OpenAI-compatible server, at the trace's own "
        "arrival times, and sums up how many objectives were met.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    parser.set_defaults(run=run)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    trace_arguments.add_trace(parser)
    parser.add_argument("--url", required=True, help="the server, such as http://127.0.0.1:8000")
    trace_arguments.add_shape(parser.add_argument_group("what is played"))
    _add_pace(parser.add_argument_group("when"))
    _add_objectives(parser.add_argument_group("objectives"))
    _add_requests(parser.add_argument_group("how requests are sent"))
    results.add_results(parser.add_argument_group("results"))


def _add_pace(group: argparse._ArgumentGroup) -> None:
    times = group.add_mutually_exclusive_group()
    times.add_argument("--speed", metavar="X", type=float, help="time runs X times as fast")
    times.add_argument(
        "--rate",
        metavar="R",
        type=float,
        help="stretch arrival times to a mean of R requests/s; Poisson where there are none",
    )
    times.add_argument(
        "--concurrency", metavar="N", type=int, help="keep N streams going, ignore arrival times"
    )
    group.add_argument(
        "--duration",
        metavar="S",
        type=float,
        help="send nothing after S seconds; with --concurrency the trace starts over until then",
    )
    group.add_argument(
        "--max-in-flight", metavar="N", type=int, default=10_000, help="default 10000"
    )
    trace_arguments.add_arrivals(group)
    trace_arguments.add_seed(group)


def _add_objectives(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--objectives", metavar="FLEET.toml", help="take [objectives] and [workload] from a file"
    )
    group.add_argument(
        "--objective",
        metavar="NAME:ttft=S,tpot=S",
        action="append",
        default=[],
        help="a class, also deadline=S; may be repeated. Without any, the gateway's own are used",
    )
    group.add_argument(
        "--mix", metavar="NAME=SHARE,…", help="share of each class, drawn per request from the seed"
    )


def _add_requests(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--model", metavar="NAME", help="default: the first that the server lists")
    group.add_argument(
        "--api-key", metavar="KEY", help="default: the environment's OPENAI_API_KEY, if any"
    )
    group.add_argument(
        "--api",
        choices=[api.value for api in Api],
        default=Api.COMPLETIONS.value,
        help="completions sends token ids, exactly as many as the trace says; chat sends text",
    )
    group.add_argument(
        "--vocab", metavar="A:B", help="token ids to make prompts of; default: what the model says"
    )
    group.add_argument(
        "--timeout", metavar="S", type=float, default=600.0, help="longest silence, default 600"
    )
    group.add_argument(
        "--check-positions",
        action="store_true",
        help="check that each token comes once and in order (Fairlead gateways)",
    )


def run(args: argparse.Namespace) -> int:
    """Replays; returns the exit status."""
    complaints = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    found: Results | None = None
    try:
        replay = _replay(args)
        found = Results(args, complaints)
        summary = _played(replay, args.quiet, complaints)
    except FairleadError as error:
        complaints.print(f"error: {error}")
        return COULD_NOT_RUN
    except KeyboardInterrupt:
        return DOES_NOT_HOLD
    else:
        written = found.show(args.label or summary.facts.trace, summary)
        return DONE if written and _holds(summary) else DOES_NOT_HOLD
    finally:
        if found is not None:
            found.give_up()


# ---------------------------------------------------------------- before anything is sent


def _replay(args: argparse.Namespace) -> Replay:
    return Replay(
        trace=_shaped(args),
        url=args.url,
        api=Api(args.api),
        model=args.model,
        api_key=args.api_key or os.environ.get("OPENAI_API_KEY"),
        objectives=_objectives(args),
        pace=_pace(args),
        seed=args.seed,
        vocabulary=_vocabulary(args.vocab),
        check_positions=args.check_positions,
        warmup_s=trace_arguments.at_least("warmup", args.warmup, 0),
        label=args.label,
    )


def _shaped(args: argparse.Namespace) -> ShapedTrace:
    shape = trace_arguments.shape(args, args.rate, args.speed)
    source = trace_arguments.source(args.trace, args)
    timed = args.concurrency is None
    return source.shaped(shape, args.seed, timed=timed, closed_loop=False)


def _pace(args: argparse.Namespace) -> Pace:
    for name in ("concurrency", "duration", "max_in_flight", "timeout"):
        trace_arguments.above_0(name.replace("_", "-"), getattr(args, name))
    return Pace(args.concurrency, args.duration, args.max_in_flight, args.timeout)


def _objectives(args: argparse.Namespace) -> WantedObjectives:
    classes: dict[str, Any] = {}
    default, mix = None, None
    if args.objectives:
        from_file = read_fleet_file(Path(args.objectives))[0].workload
        classes, default, mix = dict(from_file.classes), from_file.default, from_file.mix
    named = {objective.name: objective for objective in map(parse_objective, args.objective)}
    if named and not classes:
        default = next(iter(named))
    classes |= named
    return WantedObjectives(classes, default, parse_mix(args.mix) if args.mix else mix)


def _vocabulary(text: str | None) -> Vocabulary | None:
    if text is None:
        return None
    low, _, high = text.partition(":")
    if not (low.isdigit() and high.isdigit()):
        raise ConfigError(f"--vocab {text!r} is not A:B. Example: --vocab 1000:9000")
    return Vocabulary(int(low), int(high))


# ---------------------------------------------------------------- the run


def _played(replay: Replay, quiet: bool, console: Console) -> Summary:
    watch = None
    if console.is_terminal and not quiet:
        watch = partial(
            show_progress, console=console, pace=replay.pace, n_rows=replay.trace.n_rows
        )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(replay.run(watch))


def _holds(summary: Summary) -> bool:
    """Whether the run did what was asked of it."""
    requests = summary.requests
    positions = summary.extra.get("positions")
    if positions is not None and (not positions["ok"] or requests["failed"]):
        return False
    return requests["finished"] > 0 and not summary.extra.get("interrupted")
