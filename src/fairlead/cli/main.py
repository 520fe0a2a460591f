"""The `fairlead` command: finds the subcommand, and turns users' mistakes into messages."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from fairlead import __version__
from fairlead.model import FairleadError

COMMANDS = (
    "serve",
    "worker",
    "replay",
    "simulate",
    "compare",
    "capacity",
    "calibrate",
    "story",
    "top",
    "workload",
    "policies",
    "keys",
    "batches",
    "check",
)
"""Each is a module of this folder with `add_parser(subparsers)` and `run(args) -> int`."""

DESCRIPTION = "One scheduler for a whole fleet of LLM engines."
EXAMPLES = """\
examples:
  fairlead serve examples/laptop.toml
  fairlead replay azure-conv-slice --url http://127.0.0.1:8000 --limit 50 --rate 1 --out s.json
  fairlead policies

Exit status: 0 done, 1 ran and what was asked for does not hold, 2 could not run.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="fairlead",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fairlead {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    # Only the command that was asked for is imported: some bring heavy libraries along.
    wanted = [name for name in words if name in COMMANDS][:1] or COMMANDS
    modules = {name: importlib.import_module(f"fairlead.cli.{name}") for name in wanted}
    for module in modules.values():
        module.add_parser(subparsers)
    args = parser.parse_args(words)
    try:
        status: int = modules[args.command].run(args)
        sys.stdout.flush()
    except FairleadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough; point stdout elsewhere for the final flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status
