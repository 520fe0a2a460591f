"""`fairlead top`: the live fleet in the terminal."""

from __future__ import annotations

import argparse
import os
import sys
import time

import msgspec
from rich.console import Console
from rich.live import Live
from rich.text import Text

from fairlead.client.watch import NoLinkError, State, Watched
from fairlead.client.window_view import view
from fairlead.model import ConfigError

URL = "http://127.0.0.1:8000"
RETRY_S = 2.0
WIDTH = 80
EXAMPLES = f"""\
examples:
  fairlead top
  fairlead top --url http://gateway:8000 --api-key KEY
  fairlead top --json | jq .totals

Shows what the dashboard shows ({URL}/dashboard); Ctrl-C ends it.
Where the output is no terminal it prints one table and ends.

exit status: 0 done; 2 no gateway there, or it does not let us watch.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "top",
        help="the live fleet in the terminal",
        description="Watches the fleet behind a gateway: its instances, objectives, hand-offs.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--url", metavar="URL", default=URL, help=f"the gateway; default {URL}")
    parser.add_argument(
        "--api-key", metavar="KEY", help="default: the environment's OPENAI_API_KEY, if any"
    )
    parser.add_argument("--once", action="store_true", help="print one table and end")
    parser.add_argument("--json", action="store_true", help="print the picture as JSON and end")


def run(args: argparse.Namespace) -> int:
    watched = Watched(args.url.rstrip("/"), args.api_key or os.environ.get("OPENAI_API_KEY"))
    try:
        first = watched.once()
    except NoLinkError as error:
        raise ConfigError(
            f"{error}; start a fleet with `fairlead serve FLEET.toml`, or name its --url."
        ) from error
    if args.json:
        print(msgspec.json.encode(first).decode())
    elif args.once or not sys.stdout.isatty():
        Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False).print(view(first))
    else:
        _live(watched, first)
    return 0


def _live(watched: Watched, first: State) -> None:
    console = Console(highlight=False)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        try:
            _show(live, first)
            while True:
                try:
                    for state in watched.pictures():
                        _show(live, state)
                    said = "the gateway has stopped"
                except NoLinkError as error:
                    said = str(error)
                live.update(Text(f"no link: {said}; trying again", style="red"), refresh=True)
                time.sleep(RETRY_S)
        except KeyboardInterrupt:
            pass


def _show(live: Live, state: State) -> None:
    size = live.console.size
    live.update(view(state, size.width, size.height), refresh=True)
