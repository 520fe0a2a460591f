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
import time
from collections import Counter
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from soaking import ledger
from soaking.call import End
from soaking.fleet import Fleet
from soaking.gauges import MAX_GROWTH, MAX_GROWTH_MB, MAX_MORE_FILES, SAMPLE_S, Gauges, trend
from soaking.offline import Offline
from soaking.plan import SEATS, Plan, make_plan
from soaking.traffic import Keys, Traffic

from fairlead import __version__

LAST_CALLS_S = 90.0
"""Longest wait for calls and the last batch, once nothing new begins."""
TELL_S = 30.0
INTERRUPTED = 130


class Soak:
    """One run."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.fleet = Fleet(folder, plan.instances)
        keys = Keys(self.fleet.database, plan.seed)
        self.traffic = Traffic(self.fleet, keys, plan.seed)
        self.offline = Offline(self.fleet, *keys.make("night"), plan.seed)
        self.gauges = Gauges(self.fleet, lambda: self.traffic.seats)
        self.exit_status: int | None = None
        self.left_under_way: float | None = None
        """Requests that the gateway still had when every client had its answer."""
        self.resumed: float | None = None
        """Requests that went on elsewhere when their worker died, at the last gateway."""
        self.stuck = 0
        """Clients and batches that waited when the run was over."""
        self.left_processes = 0
        self.lasted_s = 0.0

    async def run(self) -> None:
        begun_s = time.monotonic()
        try:
            await self.fleet.start()
            clients = [
                asyncio.create_task(self.traffic.client(i)) for i in range(self.plan.clients)
            ]
            tasks = [*clients, asyncio.create_task(self.offline.run())]
            watching = asyncio.create_task(self._watch())
            try:
                await self._kill_on_time()
                self.traffic.stop()
                self.offline.stop()
                await self._await_ends(tasks)
            finally:
                watching.cancel()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(watching, *tasks, return_exceptions=True)
            for task in tasks:
                if not task.cancelled() and (error := task.exception()):
                    raise error
        finally:
            self.exit_status = await self.fleet.stop()
            await asyncio.sleep(0.5)
            self.left_processes = len(self.fleet.processes())
            self.lasted_s = time.monotonic() - begun_s

    async def _kill_on_time(self) -> None:
        begun_s = time.monotonic()
        rng = Random(f"soak {self.plan.seed} victims")
        for kill in self.plan.kills:
            await asyncio.sleep(max(begun_s + kill.at_s - time.monotonic(), 0.0))
            if kill.gateway:
                await self.fleet.kill_gateway(kill.away_s)
            else:
                self.fleet.kill_worker(rng)
        await asyncio.sleep(max(begun_s + self.plan.duration_s - time.monotonic(), 0.0))

    async def _watch(self) -> None:
        told_s = time.monotonic()
        while True:
            await asyncio.sleep(SAMPLE_S)
            await asyncio.to_thread(self.gauges.sample)
            self.fleet.look_after_joined()
            if time.monotonic() - told_s >= TELL_S:
                told_s = time.monotonic()
                self._tell()

    def _tell(self) -> None:
        kills = Counter(who for _, who in self.fleet.deaths)
        last = self.gauges.samples[-1] if self.gauges.samples else None
        print(
            f"{last.at_s if last else 0:6.0f} s: {len(self.traffic.calls)} calls, "
            f"{self.offline.lines} lines, killed {kills['worker']} workers and "
            f"{kills['gateway']} gateways, {last.rss_mb if last else 0:.0f} MB, "
            f"{last.files if last else 0} files, {sum(self.traffic.problems.values())} problems",
            file=sys.stderr,
            flush=True,
        )

    async def _await_ends(self, tasks: list[asyncio.Task[None]]) -> None:
        _, waiting = await asyncio.wait(tasks, timeout=LAST_CALLS_S)
        self.stuck = len(waiting)
        await asyncio.sleep(2.0)  # What clients have left is noticed, and the ledger written.
        self.left_under_way = await self.fleet.metric("fairlead_requests_under_way")
        self.resumed = await self.fleet.metric("fairlead_resumed_total")


# -------------------------------------------------------------------- what holds

Row = tuple[str, str, bool]


def judge(soak: Soak) -> tuple[list[Row], list[str]]:
    """What must hold: its name, what was found, whether it holds. And all problems in words."""
    traffic, offline = soak.traffic, soak.offline
    found = ledger.audit(
        ledger.read(soak.fleet.database), traffic.calls, offline.key_id, offline.tokens
    )
    ledger.check_totals(soak.fleet.database, found)
    ends = Counter(call.end for call in traffic.calls)
    problems = [
        f"{n}x {what}"
        for c in (traffic.problems, offline.problems, found.problems)
        for what, n in c.most_common(20)
    ]
    rows: list[Row] = [
        (
            "lines of batches lost, repeated",
            f"{offline.lost}, {offline.repeated} of {offline.lines}",
            not (offline.lost or offline.repeated or offline.problems) and offline.lines > 0,
        ),
        (
            "tokens lost, repeated or others; calls failed",
            f"{sum(traffic.problems.values())} calls of {len(traffic.calls)}",
            not traffic.problems and ends[End.FINISHED] > 0,
        ),
        (
            "ledger against clients, call by call",
            f"{found.exact} exact; {found.cut} cut, {found.cut_tokens_over} tokens over; "
            f"{found.gone} gone, {found.gone_tokens_over} over; {found.lines} lines; "
            f"{sum(found.problems.values())} wrong",
            not found.problems and found.exact > 0,
        ),
        (
            "stuck at the end: clients, requests at the gateway",
            f"{soak.stuck}, {soak.left_under_way}",
            soak.stuck == 0 and soak.left_under_way == 0,
        ),
        *_trends(soak),
        (
            "after the end: exit status, processes left",
            f"{soak.exit_status}, {soak.left_processes}",
            soak.exit_status == 0 and soak.left_processes == 0,
        ),
    ]
    return rows, problems


def _trends(soak: Soak) -> list[Row]:
    steady = soak.gauges.steady()
    memory = trend(steady, lambda s: s.rss_mb)
    files = trend(steady, lambda s: s.files - s.seats)
    n = trend(steady, lambda s: s.processes)
    most = max((s.processes for s in soak.gauges.samples), default=0)
    # A gateway, its workers, and ours.
    due = soak.plan.instances + 1
    return [
        (
            f"memory of the gateway, over its last {memory.lasted_s:.0f} s",
            f"{memory.median:.0f} MB, {memory.growth:+.1f} MB ({memory.per_hour:+.1f} an hour)",
            memory.growth <= max(MAX_GROWTH_MB, MAX_GROWTH * memory.median),
        ),
        (
            "its file descriptors beside clients'",
            f"{files.median:.0f}, {files.growth:+.1f}",
            files.growth <= MAX_MORE_FILES,
        ),
        (
            "processes (at most)",
            f"{n.median:.0f} ({most}), {n.growth:+.1f}",
            n.median == due and most <= due + soak.plan.instances,
        ),
    ]


def show(soak: Soak, rows: list[Row], problems: list[str]) -> None:
    plan = soak.plan
    kills = Counter(who for _, who in soak.fleet.deaths)
    ends = Counter(call.end.value for call in soak.traffic.calls)
    tokens = sum(call.got_tokens for call in soak.traffic.calls) + sum(soak.offline.tokens.values())
    print(
        f"fairlead {__version__}; seed {plan.seed}; {plan.instances} instances, {plan.clients} "
        f"clients ({plan.load:.0%} of the seats); {soak.lasted_s:.0f} s; killed "
        f"{kills['worker']} workers and {kills['gateway']} gateways; {tokens:,} output tokens"
    )
    print("calls: " + ", ".join(f"{n} {end}" for end, n in ends.most_common()))
    why = Counter(call.said for call in soak.traffic.calls if call.end is End.REJECTED)
    print("rejected: " + ", ".join(f"{n} {said}" for said, n in why.most_common()))
    busy = fmean(sample.seats for sample in soak.gauges.samples) / (plan.instances * SEATS)
    print(
        f"seats that clients had: {busy:.0%} on average; the last gateway carried "
        f"{soak.resumed:.0f} requests over to another worker"
    )
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("what must hold", "found", ""):
        table.add_column(title)
    for name, value, holds in rows:
        table.add_row(name, value, "holds" if holds else "DOES NOT HOLD")
    console = Console(highlight=False)
    console.print(table)
    for problem in problems:
        print(f"  {problem}")


def as_json(soak: Soak, rows: list[Row], problems: list[str]) -> dict[str, Any]:
    return {
        "fairlead": __version__,
        "seed": soak.plan.seed,
        "duration_s": soak.plan.duration_s,
        "lasted_s": soak.lasted_s,
        "instances": soak.plan.instances,
        "clients": soak.plan.clients,
        "killed": dict(Counter(who for _, who in soak.fleet.deaths)),
        "calls": dict(Counter(call.end.value for call in soak.traffic.calls)),
        "lines": soak.offline.lines,
        "results": [dict(zip(("name", "found", "holds"), row, strict=True)) for row in rows],
        "problems": problems,
        "samples": soak.gauges.as_json(),
    }


# -------------------------------------------------------------------- the command


def main() -> int:
    args = _arguments()
    plan = make_plan(args.seed, 60 * args.minutes, args.instances, args.load)
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
    parser.add_argument("--keep", type=Path, help="a new folder for logs, database and files")
    parser.add_argument("--json", type=Path, help="everything, with all samples")
    args = parser.parse_args()
    if args.minutes <= 0 or args.instances < 2 or not 0 < args.load <= 1:
        parser.error("--minutes must be above 0, --instances at least 2, --load above 0 up to 1")
    return args


if __name__ == "__main__":
    sys.exit(main())
