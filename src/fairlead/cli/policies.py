"""`fairlead policies`: every policy with its sentence, its paper and its parameters."""

from __future__ import annotations

import argparse
import json
from dataclasses import MISSING, fields
from typing import Any

from rich.console import Console
from rich.table import Table

from fairlead.fleet.config import PolicyConfig
from fairlead.policies import registry

EXAMPLE = """\
examples:
  fairlead policies
  fairlead policies --json | jq '.[] | select(.family == "routing") | .name'
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "policies",
        help="list every policy",
        description="Every policy: family, name, what it does, paper, parameters with defaults.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace) -> int:
    rows = [_describe(entry) for entry in registry.entries()]
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold", show_lines=False)
    for column in ("family", "name", "what it does", "parameters"):
        table.add_column(column, overflow="fold")
    for row in rows:
        parameters = "\n".join(f"{key}={value}" for key, value in row["parameters"].items())
        star = " *" if row["default"] else ""
        table.add_row(row["family"], row["name"] + star, row["sentence"], parameters)
    Console(highlight=False).print(table)
    print("\n* the default of its family")
    return 0


def _describe(entry: registry.Entry) -> dict[str, Any]:
    return {
        "family": entry.family,
        "name": entry.name,
        "sentence": entry.sentence,
        "paper": entry.paper,
        "parameters": {
            field.name: None if field.default is MISSING else field.default
            for field in fields(entry.params)
        },
        "module": entry.module,
        "default": getattr(PolicyConfig(), entry.family) == entry.name,
    }
