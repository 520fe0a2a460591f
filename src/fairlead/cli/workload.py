"""`fairlead workload`: says what a trace is like, or makes one."""

from __future__ import annotations

import argparse

from fairlead.cli import workload_describe, workload_make

EXAMPLES = """\
examples:
  fairlead workload describe azure-conv-slice
  fairlead workload make --arrivals gamma:rate=5,cv=2 --prompt lognormal:median=1000,sigma=1 \\
      --output exp:mean=200 --duration 600 --seed 1 --out t.parquet
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "workload",
        help="say what a trace is like, or make one",
        description="Says what a trace is like, or makes one.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    workload_describe.add_parser(actions)
    workload_make.add_parser(actions)


def run(args: argparse.Namespace) -> int:
    status: int = args.run_action(args)
    return status
