"""A fleet under fire for half an hour: workers and gateways die with -9, nothing may be lost.

    python benchmarks/soak.py --minutes 30
    python benchmarks/soak.py --minutes 2 --seed 7 --keep out/soak --json soak.json

A gateway with tenants (SQLite), local workers and one that joins it, all real processes with
emulated engines; clients that keep 80 % of the fleet's seats taken (streams, chats, several
choices, some that leave), and offline batches in what is left. Workers are killed all the time;
gateways in the first half, and started again at the same ports with the same files. In the second
half one gateway has to live, and its memory to stay flat.

Everything is drawn from the seed: who asks for what, and who dies when. Emulated engines say what
their seeds tell, so every text is known beforehand, to the token.

Exit status 1 where something does not hold. Takes the minutes, and at most three more. Ctrl-C
stops all processes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from soaking.fleet import StartError
from soaking.plan import make_plan
from soaking.run import Soak
from soaking.verdict import as_json, judge, show

from fairlead.model import ConfigError

INTERRUPTED = 130


def main() -> int:
    args = _arguments()
    plan = make_plan(args.seed, 60 * args.minutes, args.instances, args.load, args.lines)
    folder = args.keep or Path(tempfile.mkdtemp(prefix="fairlead-soak-"))
    if args.keep and args.keep.exists() and any(args.keep.iterdir()):
        print(f"--keep {args.keep} is not empty; name a new folder", file=sys.stderr)
        return 2
    soak = Soak(plan, folder.resolve())
    try:
        if asyncio.run(_until_interrupted(soak)):
            print("stopped; nothing was judged", file=sys.stderr)
            return INTERRUPTED
        rows, problems = judge(soak)
    except (StartError, ConfigError) as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    show(soak, rows, problems)
    if args.json:
        args.json.write_text(json.dumps(as_json(soak, rows, problems), indent=1) + "\n")
    return 0 if all(holds for _, _, holds in rows) else 1


async def _until_interrupted(soak: Soak) -> bool:
    """Whether somebody stopped it."""
    run = asyncio.create_task(soak.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, run.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await run
    return run.cancelled()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--instances", type=int, default=4, help="at least 2; default 4")
    parser.add_argument("--load", type=float, default=0.8, help="part of all seats; default 0.8")
    parser.add_argument("--lines", type=int, default=300, help="of each batch; default 300")
    parser.add_argument("--keep", type=Path, help="a new folder for logs, database and files")
    parser.add_argument("--json", type=Path, help="everything, with all samples")
    args = parser.parse_args()
    if args.minutes <= 0 or args.instances < 2 or not 0 < args.load <= 1 or args.lines < 1:
        parser.error(
            "--minutes must be above 0, --instances at least 2, --load above 0 up to 1, and "
            "--lines at least 1"
        )
    return args


if __name__ == "__main__":
    sys.exit(main())
