"""Plants bugs in a copy of the package, one at a time, and counts the seeds until one is found.

    python scripts/plant_bugs.py                  all of them, up to 1000 seeds each
    python scripts/plant_bugs.py freed-twice      one

What a fuzzer does not find when it is there, it would not find when nobody planted it. A planted
bug is a replacement of text; one whose text is no longer in the source is an error.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

SOURCE = Path(__file__).parents[1] / "src"
HUNT = """
import sys
from fairlead.simulate.fuzz import fuzz
most, *starts = map(int, sys.argv[1:])
for start in starts:
    found = (f for seed in range(start, start + most) for f in fuzz([seed]))
    failure = next(found, None)
    print(failure.seed - start + 1 if failure else "-", failure.what if failure else "not found")
"""
STARTS = (0, 100_000, 200_000)
"""Each bug is hunted from these seeds on: one start alone may be lucky."""


@dataclass(frozen=True, slots=True)
class Plant:
    """A bug, and where it goes."""

    name: str
    what: str
    file: str
    old: str
    new: str

    def apply(self, source: Path) -> None:
        path = source / "fairlead" / self.file
        text = path.read_text()
        if text.count(self.old) != 1:
            sys.exit(f"{self.name}: its text stands {text.count(self.old)} times in {self.file}")
        path.write_text(text.replace(self.old, self.new))


PLANTS = (
    Plant(
        "report-acknowledged",
        "a dispatch that a report does not show counts as arrived, and is never sent again",
        "fleet/fleet.py",
        "        for tracked in lost:\n",
        "        for tracked in lost[:0]:\n",
    ),
    Plant(
        "freed-twice",
        "the blocks of a sequence that was preempted before are released twice when it leaves",
        "instance/planner.py",
        "        self.pool.release(sequence.blocks, sequence.owner, now)\n",
        "        self.pool.release(sequence.blocks, sequence.owner, now)\n"
        "        if sequence.n_preemptions:\n"
        "            self.pool.release(sequence.blocks[:1], sequence.owner, now)\n",
    ),
    Plant(
        "old-attempt",
        "tokens of an attempt that was superseded on the same instance are accepted",
        "fleet/fleet.py",
        "            if tracked.instance != event.instance or tracked.attempt != row.attempt:\n",
        "            if tracked.instance != event.instance:\n",
    ),
    Plant(
        "committed-twice",
        "a hand-off whose source says that it is done counts again where the target's tokens had "
        "already said so",
        "fleet/fleet.py",
        "        tracked = self._placement.current(event.instance, event.request, event.attempt)\n"
        "        if tracked is None or tracked.moving is None:\n",
        "        tracked = self._requests.get(event.request)\n"
        "        if tracked is None or tracked.moving is None:\n",
    ),
    Plant(
        "target-overtakes",
        "the target's tokens count before the source's last ones have come",
        "fleet/fleet.py",
        "        if row.start == len(tracked.produced) and not moving.ahead:\n",
        "        if row.start >= len(tracked.produced) and not moving.ahead:\n",
    ),
    Plant(
        "runs-on-at-both-ends",
        "the source goes on with what the target has committed",
        "instance/handoff.py",
        "        self._instance.abort(self.order.request, now, self.order.attempt)\n",
        "        self._instance.thaw(self.order.request, now)\n",
    ),
    Plant(
        "reservation-leaks",
        "blocks that were reserved stay held where the hand-off comes to nothing",
        "instance/planner.py",
        "        self.pool.release(incoming.blocks, incoming.owner, now)\n",
        "",
    ),
    Plant(
        "another-owner",
        "what was reserved for a sequence that does not come counts as nobody's cached blocks",
        "instance/planner.py",
        "        self.pool.release(incoming.blocks, incoming.owner, now)\n",
        '        self.pool.release(incoming.blocks, b"", now)\n',
    ),
    Plant(
        "attempt-not-counted",
        "a request that is sent again, for it was lost on its way, is the same attempt",
        "fleet/placement.py",
        "        tracked.issued += 1\n        tracked.attempt",
        "        tracked.issued += why is not DispatchWhy.LOST_ON_THE_WAY\n        tracked.attempt",
    ),
    Plant(
        "gap-delivered",
        "tokens that follow upon lost ones are delivered as if nothing was missing",
        "fleet/fleet.py",
        "        if row.start == len(produced):\n",
        "        if row.start >= len(produced):\n",
    ),
    Plant(
        "resumed-one-early",
        "an attempt that goes on elsewhere tells the last delivered token again",
        "instance/sequence.py",
        "        self.n_told = len(produced)\n",
        "        self.n_told = max(len(produced) - 1, 0)\n",
    ),
    Plant(
        "leaked-while-prefilling",
        "a sequence that leaves before it decodes keeps its blocks",
        "instance/planner.py",
        "        self.pool.release(sequence.blocks, sequence.owner, now)\n",
        "        if sequence.n_produced:\n"
        "            self.pool.release(sequence.blocks, sequence.owner, now)\n",
    ),
    Plant(
        "zombie",
        "an instance is not told of a request that it still holds and the fleet has given away",
        "fleet/fleet.py",
        "            if self._placement.current(report.instance, id, attempt) is None\n",
        "            if not id\n",
    ),
    Plant(
        "step-of-the-gone",
        "a step that ends after one of its sequences has left still counts tokens for it",
        "instance/instance.py",
        "            if self._sequences.get(row.request) is not sequence:\n",
        "            if not row.request:\n",
    ),
    Plant(
        "forgotten-in-the-queue",
        "requests that find no room when the queue is looked through are dropped from it",
        "fleet/placement.py",
        "                left_out.add_line(tracked, all_alike=not self.holding.active)\n"
        "                continue\n",
        "                self.queue.remove(tracked)\n                return []\n",
    ),
    Plant(
        "room-unused",
        "whoever begins to decode leaves the instance's queue, and the fleet's queue waits on",
        "fleet/fleet.py",
        "            (shadow.has_room and not had_room)\n"
        "            or self.handoffs.n_done > n_moved\n",
        "            False\n",
    ),
    Plant(
        "endless-answer",
        "a sequence that sat out an iteration is not asked again whether it has ended",
        "simulate/node.py",
        "                heapreplace(ends, (first + max(left, n + 1), queued, sequence))\n",
        "                self._forget()\n",
    ),
)


def hunt(plant: Plant, seeds: int) -> str:
    """A line of the table."""
    with TemporaryDirectory() as folder:
        source = Path(folder) / "src"
        shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        plant.apply(source)
        done = subprocess.run(
            [sys.executable, "-c", HUNT, *map(str, (seeds, *STARTS))],
            env={**os.environ, "PYTHONPATH": str(source)},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        return f"{plant.name}: could not run: {done.stderr[-300:]}"
    numbers, whats = zip(*(line.split(" ", 1) for line in done.stdout.splitlines()), strict=True)
    return f"{plant.name:24} {', '.join(numbers):>14}  {whats[0][:90]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="bugs to plant; default: all")
    parser.add_argument("--seeds", type=int, default=1000, help="most seeds for each")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    plants = [plant for plant in PLANTS if not args.names or plant.name in args.names]
    if unknown := set(args.names) - {plant.name for plant in PLANTS}:
        sys.exit(f"no bug is called {', '.join(sorted(unknown))}")
    for plant in plants:
        print(f"{plant.name:24} {plant.what}")
    print(f"\n{'bug':24} {'seeds needed':>14}  found as")
    with ThreadPoolExecutor(args.jobs) as pool:
        lines = list(pool.map(lambda plant: hunt(plant, args.seeds), plants))
    print("\n".join(lines))
    return int(any("not found" in line or "could not" in line for line in lines))


if __name__ == "__main__":
    sys.exit(main())
