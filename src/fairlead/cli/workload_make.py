"""`fairlead workload make`: draws a workload and writes it as a trace."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from rich.console import Console

from fairlead import __version__
from fairlead.cli.description_table import WIDTH, description_table
from fairlead.cli.trace_file import check_place, write_trace
from fairlead.client.progress import Bar
from fairlead.model import ConfigError
from fairlead.workload.columns import TraceColumns
from fairlead.workload.describe import Description
from fairlead.workload.generate.arrivals import PROCESSES, parse_process
from fairlead.workload.generate.conversations import Conversations
from fairlead.workload.generate.lengths import DISTRIBUTIONS, parse_distribution
from fairlead.workload.generate.open_loop import Independent, Lengths, OpenLoop, Pairs
from fairlead.workload.generate.servegen import ServeGen
from fairlead.workload.generate.sharing import SHARINGS, Sharing, parse_sharing
from fairlead.workload.read_servegen import read_servegen
from fairlead.workload.shape import parse_window
from fairlead.workload.trace import open_trace


def _examples(kinds: Mapping[str, type[Any]]) -> str:
    return "\n".join(f"    {kind.EXAMPLE}" for kind in kinds.values())


EXAMPLES = f"""\
examples:
  ten minutes of bursty arrivals:
    fairlead workload make --arrivals gamma:rate=5,cv=2 --prompt lognormal:median=1000,sigma=1 \\
        --output exp:mean=200 --duration 600 --seed 1 --out t.parquet

  a day and a night, lengths of a real data set, twenty system prompts of unequal popularity:
    fairlead workload make --arrivals diurnal:rate=2,period=86400,amplitude=0.8 \\
        --lengths lengths_sharegpt.parquet --prefixes system:n=20,tokens=1000,alpha=1 \\
        --duration 86400 --out day.parquet

  conversations, for a closed loop (simulate them with --rate R, in sessions per second):
    fairlead workload make --sessions 500 --turns exp:mean=6 --gap lognormal:median=20,sigma=1 \\
        --prompt lognormal:median=80,sigma=1 --output exp:mean=250 --out chat.parquet

  an hour of a production service as the sum of its clients, at 50 requests a second:
    fairlead workload make --servegen traces/servegen_m_small --window 36000:39600 --rate 50 \\
        --out service.parquet

--arrivals (times in seconds; rate is the mean, per second):
{_examples(PROCESSES)}

--prompt, --output (tokens), --turns, --gap (seconds); a plain number is the same every time:
{_examples(DISTRIBUTIONS)}

--prefixes (they come before the drawn prompt):
{_examples(SHARINGS)}

Equal seeds make equal files.

exit status: 0 done; 2 could not run.
"""
MOST_REQUESTS = 1_000_000_000


class Workload(Protocol):
    def parts(self) -> Iterator[TraceColumns]: ...


def add_parser(actions: Any) -> None:
    parser = actions.add_parser(
        "make",
        help="draw a workload and write it as a trace",
        description="Draws a workload from a seed and writes it as a trace in the common schema.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", metavar="FILE", required=True, type=Path, help="ends in .parquet or .csv"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="default 0")
    parser.add_argument("--quiet", action="store_true", help="do not say what was made")
    _add_load(parser.add_argument_group("arrivals"))
    _add_lengths(parser.add_argument_group("lengths and prefixes"))
    _add_sessions(parser.add_argument_group("conversations"))
    _add_servegen(parser.add_argument_group("a production service, client by client"))
    parser.set_defaults(run_action=run)


def _add_load(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--arrivals", metavar="PROCESS", help="see below")
    group.add_argument("--duration", metavar="S", type=float, help="seconds of traffic")
    group.add_argument("--requests", metavar="N", type=int, help="most requests")


def _add_lengths(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--prompt", metavar="DIST", help="tokens of a prompt, see below")
    group.add_argument("--output", metavar="DIST", help="tokens of an output")
    group.add_argument(
        "--lengths", metavar="TRACE", help="draw prompt and output together from this file's rows"
    )
    group.add_argument("--prefixes", metavar="SHARING", help="prompts begin alike, see below")
    group.add_argument(
        "--block-tokens", metavar="N", type=int, default=16, help="of a prefix block, default 16"
    )


def _add_sessions(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--sessions", metavar="N", type=int, help="make so many conversations")
    group.add_argument("--turns", metavar="DIST", default="exp:mean=5", help="default exp:mean=5")
    group.add_argument(
        "--gap",
        metavar="DIST",
        default="lognormal:median=20,sigma=1",
        help="seconds from an answer to the next turn, default lognormal:median=20,sigma=1",
    )
    group.add_argument(
        "--max-prompt",
        metavar="N",
        type=int,
        default=131_072,
        help="a conversation ends before its prompt is longer, default 131072",
    )


def _add_servegen(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--servegen", metavar="NAME", help="reads NAME_rates.parquet and NAME_lengths.parquet"
    )
    group.add_argument("--window", metavar="A:B", help="seconds of the recording; default: all")
    group.add_argument("--rate", metavar="R", type=float, help="mean rate; default: the recorded")


def run(args: argparse.Namespace) -> int:
    """Makes and writes it; returns the exit status."""
    check_place(args.out)
    _check_numbers(args)
    workload = _workload(args)
    description = Description()
    complaints = Console(stderr=True, highlight=False)
    with Bar(complaints, _expected(args, workload), args.quiet) as bar:
        parts = _watched(workload.parts(), description, bar)
        write_trace(args.out, parts, _metadata(args, workload))
    if not args.quiet:
        notes = {"wrote": str(args.out)}
        table = description_table(args.out.name, description.to_json(), notes)
        Console(width=WIDTH, highlight=False).print(table)
    return 0


def _expected(args: argparse.Namespace, workload: Workload) -> int | None:
    """About how many requests it will be; None where nobody knows."""
    expected = math.inf if args.requests is None else args.requests
    match workload:
        case OpenLoop():
            expected = min(workload.process.rate * (args.duration or math.inf), expected)
        case ServeGen():
            expected = workload.mean_rps * (workload.window_s[1] - workload.window_s[0])
    return int(expected) if expected < math.inf else None


def _watched(
    parts: Iterable[TraceColumns], description: Description, bar: Bar
) -> Iterator[TraceColumns]:
    for part in parts:
        description.add(part)
        bar.requests(description.n_rows)
        yield part


# ---------------------------------------------------------------- what is made


def _check_numbers(args: argparse.Namespace) -> None:
    names = ("duration", "requests", "sessions", "rate", "block_tokens", "max_prompt")
    for name in names:
        value = getattr(args, name)
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"--{name.replace('_', '-')} must be above 0, got {value:g}.")


def _workload(args: argparse.Namespace) -> Workload:
    if args.servegen is not None:
        _refuse(args, "--servegen", "arrivals", "prompt", "output", "lengths", "prefixes")
        _refuse(args, "--servegen", "sessions", "duration", "requests")
        return _servegen(args)
    _refuse(args, "a drawn workload", "window", "rate")
    if args.sessions is not None:
        _refuse(args, "--sessions", "arrivals", "duration", "requests")
        return Conversations(
            args.sessions,
            parse_distribution("--turns", args.turns),
            _lengths(args),
            parse_distribution("--gap", args.gap),
            args.seed,
            _sharing(args),
            args.block_tokens,
            args.max_prompt,
        )
    return _open_loop(args)


def _open_loop(args: argparse.Namespace) -> OpenLoop:
    if args.arrivals is None:
        raise ConfigError(
            "say when requests arrive: --arrivals poisson:rate=5 (or --sessions N for "
            "conversations, or --servegen NAME for a recorded service)."
        )
    process = parse_process(args.arrivals)
    if args.duration is None and args.requests is None:
        raise ConfigError("say how much: --duration S or --requests N.")
    expected = min(process.rate * (args.duration or math.inf), args.requests or math.inf)
    if expected > MOST_REQUESTS:
        raise ConfigError(f"that is {expected:.3g} requests; expected {MOST_REQUESTS:,} at most.")
    return OpenLoop(
        process,
        _lengths(args),
        args.seed,
        args.duration,
        args.requests,
        _sharing(args),
        args.block_tokens,
    )


def _servegen(args: argparse.Namespace) -> ServeGen:
    rates, lengths = read_servegen(args.servegen)
    first_s, last_s = parse_window(args.window) if args.window else (0.0, math.inf)
    last_s = min(last_s, rates.end_s)
    if not 0 <= first_s < last_s:
        raise ConfigError(
            f"--window {args.window}: the recording goes from 0 to {rates.end_s:g} s."
        )
    return ServeGen(rates, lengths, (first_s, last_s), args.seed, args.rate)


def _lengths(args: argparse.Namespace) -> Lengths:
    if args.lengths is not None:
        _refuse(args, "--lengths", "prompt", "output")
        parts = list(open_trace(args.lengths).parts(()))
        if not parts:
            raise ConfigError(f"--lengths {args.lengths}: the file has no usable row.")
        return Pairs(
            np.concatenate([part.prompt_tokens for part in parts]),
            np.concatenate([part.output_tokens for part in parts]),
        )
    if args.prompt is None or args.output is None:
        raise ConfigError(
            "say how long prompts and outputs are: --prompt lognormal:median=1000,sigma=1 "
            "--output exp:mean=200, or --lengths FILE."
        )
    return Independent(
        parse_distribution("--prompt", args.prompt), parse_distribution("--output", args.output)
    )


def _sharing(args: argparse.Namespace) -> Sharing | None:
    return None if args.prefixes is None else parse_sharing(args.prefixes)


def _refuse(args: argparse.Namespace, beside: str, *names: str) -> None:
    for name in names:
        if getattr(args, name) is not None:
            raise ConfigError(f"--{name} says nothing beside {beside}; leave one of them out.")


def _metadata(args: argparse.Namespace, workload: Workload) -> dict[str, str]:
    metadata = {
        "source": "fairlead " + shlex.join(sys.argv[1:]),
        "fairlead": __version__,
        "seed": str(args.seed),
        "clock": "none (sessions)" if args.sessions is not None else "global",
    }
    if args.prefixes is not None or args.sessions is not None:
        metadata["block_size_tokens"] = str(args.block_tokens)
        metadata["hash_semantics"] = "prefix-chained ids, full blocks only"
    if isinstance(workload, ServeGen) and workload.lenders:
        metadata["note"] = (
            f"the lengths of {len(workload.lenders)} clients are not published; they take those of "
            "another client of about their rate"
        )
    return metadata
