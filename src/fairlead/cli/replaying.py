"""The dashboard's replays: `fairlead simulate --from-log` with the fleet file that serves."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fairlead.fleet.config import FleetConfig
from fairlead.gateway.replays import Replays
from fairlead.policies import registry

PROGRAM = (sys.executable, "-m", "fairlead")
QUIET = ("--out", "-", "--quiet")


def replays(
    fleet: Path, changes: Sequence[str], config: FleetConfig, log: str, flush: Callable[[], None]
) -> Replays:
    """`changes` are those that the fleet is served with; later ones win."""

    def command(last_s: float, more: Sequence[str]) -> Sequence[str]:
        words = ["simulate", "--from-log", log, "--last", f"{last_s:g}s", "--fleet", str(fleet)]
        for change in (*changes, *more):
            words += ["--set", change]
        return [*PROGRAM, *words, *QUIET]

    def shown(words: Sequence[str]) -> str:
        return "fairlead " + shlex.join(words[len(PROGRAM) : -len(QUIET)])

    routing = sorted(entry.name for entry in registry.entries() if entry.family == "routing")
    pools = {pool.name: pool.instances for pool in config.pools}
    return Replays(command, shown, flush, routing, pools)
