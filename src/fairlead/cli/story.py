"""`fairlead story`: what happened to a request or an instance, and why."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fairlead.client.table import WIDTH
from fairlead.observe.instance_story import instance_story
from fairlead.observe.read_log import not_in_log, read_log
from fairlead.observe.story import Moment, Storyteller, logged_id

EXAMPLES = """\
examples:
  fairlead simulate azure-conv-slice --fleet examples/eight-h100.toml --rate 150 --log run.log
  fairlead story run.log r17
  fairlead story run.log h100-3
  fairlead story run.log r17 --json | jq .what

LOG is what `fairlead simulate --log` wrote, or a gateway with event_log = "FILE" in its [gateway]
table. Times are relative to the arrival of the request, or to the instance's first appearance.

exit status: 0 done; 2 the log cannot be read, or does not know the id.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "story",
        help="what happened to a request or an instance, and why",
        description="Tells from an event log what happened to a request or an instance, and why.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("log", metavar="LOG", type=Path, help="an event log")
    parser.add_argument(
        "id",
        metavar="ID",
        help="a request such as r17, the id of an answer such as cmpl-r1af01, or an instance",
    )
    parser.add_argument("--json", action="store_true", help="the log's own lines about it")


def run(args: argparse.Namespace) -> int:
    args.id = logged_id(args.id)
    if args.json:
        return _lines(args.log, args.id)
    teller = Storyteller(args.id)
    request = teller.tell(read_log(args.log))
    if request is not None:
        _print(request.title, request.arrival_s, request.moments, request.verdict)
        return 0
    instance = instance_story(args.id, read_log(args.log)) if args.id in teller.instances else None
    if instance is None:
        raise not_in_log(args.log, args.id, teller.ids)
    _print(instance.title, instance.begin_s, instance.moments, f"in all: {instance.verdict}")
    return 0


def _lines(log: Path, id: str) -> int:
    known: dict[str, None] = {}
    found = False
    for line in read_log(log):
        mine = {line.get("request"), line.get("instance")}
        known |= {name: None for name in mine if name is not None}
        if id in mine:
            found = True
            print(json.dumps(line))
    if not found:
        raise not_in_log(log, id, known)
    return 0


def _print(title: str, begin_s: float, moments: list[Moment], verdict: str) -> None:
    table: Any = Table.grid(padding=(0, 2))
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    for moment in moments:
        table.add_row(_since(moment.t_s - begin_s), Text(moment.text))
    console = Console(width=WIDTH, highlight=False)
    console.print(Text(title, style="bold"))
    console.print(table)
    console.print(Text(verdict, style="bold"))


def _since(seconds: float) -> str:
    return f"+{seconds:.3f} s" if seconds < 1000 else f"+{seconds:,.0f} s"
