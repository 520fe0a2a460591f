"""Which part of an event log is played: by the clock on the wall, or counted from its end."""

from __future__ import annotations

import argparse
import re
from datetime import datetime

from fairlead.model import ConfigError
from fairlead.observe.log_trace import LogTrace

UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
YEAR_S = 365 * 86400.0


def add_log_window(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--since", metavar="TIME", help="of a log: from this time on, as in 2026-11-17T09:00"
    )
    group.add_argument("--until", metavar="TIME", help="of a log: up to this time")
    group.add_argument(
        "--last", metavar="TIME", help="of a log: its last 90s, 15m, 2h or 1d, up to --until"
    )


def log_window(trace: LogTrace, args: argparse.Namespace) -> tuple[float, float] | None:
    """The window on the trace's clock that the arguments ask for; None where they ask for none.
    Raises `ConfigError`."""
    if not (args.since or args.until or args.last):
        return None
    if args.since and args.last:
        raise ConfigError("--since and --last both say where to begin; give one of them.")
    if (args.since or args.until) and trace.begun_s < YEAR_S:
        raise ConfigError(
            f"{trace.path} was written by a simulation and knows no dates; use --window or --last."
        )
    end_s = parse_time("until", args.until) - trace.begun_s if args.until else float("inf")
    if args.last:
        last_s = min(end_s, trace.duration_s)
        return last_s - parse_duration(args.last), end_s
    begin_s = parse_time("since", args.since) - trace.begun_s if args.since else 0.0
    if not begin_s < end_s:
        raise ConfigError("--since is not before --until.")
    return begin_s, end_s


def parse_time(name: str, text: str) -> float:
    """Seconds since 1970 of a date; without a zone it is the local one's."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise ConfigError(
            f"--{name} {text!r} is no time. Examples: 2026-11-17T09:00, 2026-11-17T09:00:30Z"
        ) from None


def parse_duration(text: str) -> float:
    """Seconds of `90s`, `15m`, `2h` or `1d`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if not found or not float(found[1]) > 0:
        raise ConfigError(f"--last {text!r} is no duration. Examples: 90s, 15m, 2h, 1d")
    return float(found[1]) * UNITS_S[found[2]]
