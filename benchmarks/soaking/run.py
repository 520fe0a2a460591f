"""One soak: the fleet, its clients and batches, and who kills what when."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

from soaking.fleet import Fleet
from soaking.gauges import SAMPLE_S, Gauges
from soaking.offline import Offline
from soaking.plan import Plan
from soaking.traffic import Keys, Traffic

LAST_CALLS_S = 180.0
"""Longest wait for calls and the last batch, once nothing new begins."""
TELL_S = 30.0


class Soak:
    """One run."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.fleet = Fleet(folder, plan.instances)
        keys = Keys(self.fleet.database, plan.seed)
        self.traffic = Traffic(self.fleet, keys, plan.seed)
        self.offline = Offline(self.fleet, *keys.make("night"), plan.seed, plan.lines)
        self.gauges = Gauges(self.fleet, lambda: self.traffic.seats)
        self.exit_status: int | None = None
        self.left_under_way: float | None = None
        """Requests that the gateway still had when every client had its answer."""
        self.resumed: float | None = None
        """Requests that went on elsewhere when their worker died, at the last gateway."""
        self.stuck = 0
        """Clients and batches that waited when the run was over."""
        self.left_processes = 0
        self._told: set[str] = set()
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
        last = [kill for kill in self.plan.kills if kill.gateway][-1]
        for kill in self.plan.kills:
            await asyncio.sleep(max(begun_s + kill.at_s - time.monotonic(), 0.0))
            if kill.gateway:
                await self.fleet.kill_gateway(kill.away_s)
                if kill is last:
                    # The plan stands still meanwhile: a slow machine, too, watches the last one.
                    await self.fleet.until_whole()
                    begun_s = time.monotonic() - kill.at_s
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
        for problem in self.traffic.problems.keys() - self._told:
            print(f"        problem: {problem}", file=sys.stderr)
            self._told.add(problem)
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
