"""Plays the last of the event log again, with changes, in a process of its own that gives way to
everything else: what the dashboard's "Replay this minute" asks for."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import PIPE
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fairlead.model import RequestError

LONGEST_S = 3600.0
MOST_INSTANCES = 1000
TIMEOUT_S = 120.0
NICE = 19


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """What to play, and what is to be otherwise."""

    last_s: float = 60.0
    routing: str = ""
    """Empty leaves the policy as it is."""
    instances: dict[str, int] = {}
    """By pool; those left out stay as they are."""


@dataclass(frozen=True, slots=True)
class Replays:
    """One at a time."""

    command: Callable[[float, Sequence[str]], Sequence[str]]
    """The words of a command that plays so many seconds with these changes, and writes a Summary
    to its stdout."""
    shown: Callable[[Sequence[str]], str]
    """Such a command as a person would type it."""
    flush: Callable[[], None]
    """Sees to it that the log has been written."""
    routing: Sequence[str]
    pools: Mapping[str, int]
    """Instances of each pool."""
    _busy: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def options(self) -> dict[str, Any]:
        """What there is to choose from."""
        return {"routing": list(self.routing), "pools": dict(self.pools)}

    async def run(self, body: bytes) -> dict[str, Any]:
        """Its Summary, with the command that makes it again. Raises `RequestError`."""
        asked = self._read(body)
        if self._busy.locked():
            raise RequestError(
                "another replay is running; wait for its end",
                status=429,
                code="busy",
                retry_after_s=5.0,
            )
        async with self._busy:
            self.flush()
            words = self.command(asked.last_s, self._changes(asked))
            return {"command": self.shown(words), "summary": await _run(words)}

    def _read(self, body: bytes) -> Asked:
        try:
            asked = msgspec.json.decode(body, type=Asked)
        except msgspec.MsgspecError as error:
            raise RequestError(f"{error}", code="invalid_value") from None
        if not 1 <= asked.last_s <= LONGEST_S:
            raise RequestError(f"last_s must be from 1 to {LONGEST_S:g}", param="last_s")
        if asked.routing and asked.routing not in self.routing:
            raise RequestError(f"no routing policy is called {asked.routing!r}", param="routing")
        for pool, n in asked.instances.items():
            if pool not in self.pools or not 1 <= n <= MOST_INSTANCES:
                known = ", ".join(self.pools)
                raise RequestError(
                    f"instances: the pools are {known}, with 1 to {MOST_INSTANCES} each",
                    param="instances",
                )
        return asked

    def _changes(self, asked: Asked) -> list[str]:
        changes = [f"policy.routing={asked.routing}"] if asked.routing else []
        places = {name: i for i, name in enumerate(self.pools)}
        return changes + [
            f"pool.{places[name]}.instances={n}" for name, n in asked.instances.items()
        ]


async def _run(words: Sequence[str]) -> Any:
    process = await asyncio.create_subprocess_exec(
        *words, stdout=PIPE, stderr=PIPE, preexec_fn=lambda: os.nice(NICE)
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            out, said = await process.communicate()
    except TimeoutError:
        raise RequestError(
            f"the replay took longer than {TIMEOUT_S:g} s; play less of the log, or use "
            "`fairlead simulate --from-log` in a shell",
            status=504,
            kind="server_error",
        ) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        return msgspec.json.decode(out)
    except msgspec.MsgspecError:
        lines = said.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise RequestError(f"the replay failed: {lines[-1]}", status=422, code="failed") from None
