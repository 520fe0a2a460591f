"""`fairlead replay`: plays a trace against any OpenAI-compatible server."""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from rich.console import Console

from fairlead.cli.fleet_file import read_fleet_file
from fairlead.client.body import Api
from fairlead.client.figures import Run
from fairlead.client.out_file import OutFile, WriteError
from fairlead.client.page import page
from fairlead.client.player import Pace
from fairlead.client.plots import require_matplotlib
from fairlead.client.progress import show_progress
from fairlead.client.replay import Replay, WantedObjectives
from fairlead.client.table import WIDTH, print_table
from fairlead.model import ConfigError, FairleadError
from fairlead.workload.layouts import parse_columns
from fairlead.workload.objectives import parse_mix, parse_objective
from fairlead.workload.prompts import Vocabulary
from fairlead.workload.shape import Shape, ShapedTrace, parse_window
from fairlead.workload.summary import Summary
from fairlead.workload.trace import SHIPPED, open_trace

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

TRACE is a Parquet, CSV or JSONL file, or a name: {", ".join(SHIPPED)}. The layouts of the Azure,
BurstGPT and Mooncake traces are known; for others name the columns with --columns.
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
    parser.add_argument("trace", metavar="TRACE", help="a trace file, or the name of a shipped one")
    parser.add_argument("--url", required=True, help="the server, such as http://127.0.0.1:8000")
    _add_shape(parser.add_argument_group("what is played"))
    _add_pace(parser.add_argument_group("when"))
    _add_objectives(parser.add_argument_group("objectives"))
    _add_requests(parser.add_argument_group("how requests are sent"))
    _add_results(parser.add_argument_group("results"))


def _add_shape(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--window", metavar="A:B", help="only rows between two times, in seconds")
    group.add_argument("--limit", metavar="N", type=int, help="only the first N rows")
    group.add_argument(
        "--scale", metavar="F", type=float, default=1.0, help="multiply all lengths by F"
    )
    group.add_argument(
        "--columns", metavar="NAME=COLUMN,…", help="as in arrival=ts,prompt=in,output=out"
    )
    group.add_argument("--sort", action="store_true", help="sort the rows by arrival, in memory")


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
    group.add_argument("--seed", metavar="N", type=int, default=0, help="default 0")


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


def _add_results(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--out", metavar="FILE", help="write the Summary as JSON; - is stdout")
    group.add_argument("--html", metavar="FILE", help="write a page of plots")
    group.add_argument(
        "--beside",
        metavar="FILE",
        action="append",
        default=[],
        help="an earlier Summary to show beside this one; may be repeated",
    )
    group.add_argument("--label", metavar="TEXT", help="what to call this run")
    group.add_argument(
        "--warmup", metavar="S", type=float, default=0.0, help="leave out the first S seconds"
    )
    group.add_argument("--quiet", action="store_true", help="no table and no progress")


def run(args: argparse.Namespace) -> int:
    """Replays; returns the exit status."""
    complaints = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    files: list[OutFile] = []
    try:
        replay = _replay(args)
        earlier = [_read_run(Path(path)) for path in args.beside]
        out, html = _out_files(args, files)
        summary = _played(replay, args.quiet, complaints)
    except FairleadError as error:
        complaints.print(f"error: {error}")
        return COULD_NOT_RUN
    except KeyboardInterrupt:
        return DOES_NOT_HOLD
    else:
        runs = [*earlier, (args.label or summary.facts.trace, summary.to_json())]
        _show(args, runs)
        written = _write(out, html, runs, complaints)
        return DONE if written and _holds(summary) else DOES_NOT_HOLD
    finally:
        for file in files:
            file.give_up()


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
        warmup_s=_at_least_0("warmup", args.warmup),
        label=args.label,
    )


def _shaped(args: argparse.Namespace) -> ShapedTrace:
    columns = parse_columns(args.columns) if args.columns else None
    shape = Shape(
        window_s=parse_window(args.window) if args.window else None,
        limit=args.limit,
        lengths=args.scale,
        rate_rps=args.rate,
        speed=1.0 if args.speed is None else args.speed,
    )
    trace = open_trace(args.trace, columns, args.sort)
    return ShapedTrace(trace, shape, args.seed, timed=args.concurrency is None)


def _pace(args: argparse.Namespace) -> Pace:
    for name in ("concurrency", "duration", "max_in_flight", "timeout"):
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise ConfigError(f"--{name.replace('_', '-')} must be above 0, got {value:g}.")
    return Pace(args.concurrency, args.duration, args.max_in_flight, args.timeout)


def _at_least_0(name: str, value: float) -> float:
    if not value >= 0:
        raise ConfigError(f"--{name} must be at least 0, got {value:g}.")
    return value


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


def _read_run(path: Path) -> Run:
    """An earlier Summary. Raises `ConfigError` where the file holds none."""
    try:
        summary = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}.") from error
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path} is not JSON: {error}.") from error
    keys = ("requests", "attainment", "ttft_s", "classes", "fleet", "policy")
    if not isinstance(summary, dict) or any(key not in summary for key in keys):
        raise ConfigError(f"{path} holds no Summary; expected what `--out` of a run wrote.")
    return str(summary.get("label") or path.stem), summary


def _out_files(
    args: argparse.Namespace, files: list[OutFile]
) -> tuple[OutFile | None, OutFile | None]:
    """Makes sure of the places of the results, and lists them in `files`."""
    if args.html:
        require_matplotlib()
    made: list[OutFile | None] = []
    for path in (args.out, args.html):
        made.append(OutFile(Path(path)) if path and path != "-" else None)
        files += [file for file in made[-1:] if file is not None]
    return made[0], made[1]


# ---------------------------------------------------------------- the run


def _played(replay: Replay, quiet: bool, console: Console) -> Summary:
    watch = None
    if console.is_terminal and not quiet:
        watch = partial(
            show_progress, console=console, pace=replay.pace, n_rows=replay.trace.n_rows
        )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(replay.run(watch))


# ---------------------------------------------------------------- after it


def _show(args: argparse.Namespace, runs: Sequence[Run]) -> None:
    if args.out == "-":
        print(_json(runs[-1]))
    if not args.quiet:
        print_table(runs, Console(width=WIDTH, stderr=args.out == "-"))


def _write(
    out: OutFile | None, html: OutFile | None, runs: Sequence[Run], complaints: Console
) -> bool:
    """Writes the results. What cannot be written is printed, so that nothing is lost."""
    ok = True
    try:
        if out is not None:
            out.write(_json(runs[-1]))
    except WriteError as error:
        ok = False
        complaints.print(f"error: {error} The Summary is printed instead.")
        print(_json(runs[-1]))
    try:
        if html is not None:
            html.write(page(runs, "fairlead " + shlex.join(_shown_arguments(sys.argv[1:]))))
    except WriteError as error:
        ok = False
        complaints.print(f"error: {error}")
    return ok


def _json(run: Run) -> str:
    text = msgspec.json.format(msgspec.json.encode(run[1]), indent=1).decode()
    return text + "\n"


def _shown_arguments(arguments: Sequence[str]) -> list[str]:
    """The command line without its secret."""
    shown: list[str] = []
    for word in arguments:
        secret = shown and shown[-1] == "--api-key"
        given = word.startswith("--api-key=")
        shown.append("..." if secret else "--api-key=..." if given else word)
    return shown


def _holds(summary: Summary) -> bool:
    """Whether the run did what was asked of it."""
    requests = summary.requests
    positions = summary.extra.get("positions")
    if positions is not None and (not positions["ok"] or requests["failed"]):
        return False
    return requests["finished"] > 0 and not summary.extra.get("interrupted")
