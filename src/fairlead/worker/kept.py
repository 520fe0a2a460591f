"""Workers that are kept alive: started, started again when they die, and stopped.

What a worker runs in, a process of this machine or an actor of a Ray cluster, is a `Launcher`'s to
know; when one is started, given up or let go is decided here, for all of them alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fairlead.model import ConfigError, InstanceSpec
from fairlead.worker.settings import WorkerSettings

FIRST_DELAY_S = 0.2
LAST_DELAY_S = 5.0
STEADY_S = 10.0
"""A worker that lived so long had started well; its death is the first again."""
MAX_QUICK_DEATHS = 5
"""Deaths in a row, each within `STEADY_S`, after which a worker is given up: starting it costs
seconds of processor time that the others need."""
KEPT_LINES = 20
CANNOT_RUN = 2
"""The exit status of a command whose arguments or files are wrong: it will not get better."""


@dataclass(frozen=True, slots=True)
class End:
    """How a worker's life ended."""

    status: int
    """As an exit status: 0 drained, 1 sent away or dead, 2 could not run."""
    how: str = ""
    """In words, where it did not drain: `was killed by SIGKILL`."""
    lost: bool = False
    """What it ran on went away, which says nothing about the worker."""


class Ears(Protocol):
    """Who hears of one worker."""

    def line(self, text: str) -> None:
        """What it printed."""
        ...

    def unplaced(self, why: str) -> None:
        """Nothing has room for it, in words; empty once something has."""
        ...


class Life(Protocol):
    """One worker from its start to its end. Every method may be called at any time."""

    async def ended(self) -> End: ...
    def drain(self) -> None:
        """It takes nothing new, and ends when what is inside has ended."""
        ...

    def kill(self) -> None: ...


class Launcher(Protocol):
    """What workers run on."""

    async def open(self) -> None:
        """Raises `ConfigError` where nothing can be started at all."""
        ...

    async def launch(self, settings: WorkerSettings, ears: Ears) -> Life: ...
    async def close(self) -> None: ...


@dataclass(slots=True)
class Slot:
    """One worker as it should be, and the life that it has now."""

    settings: WorkerSettings
    name: str
    tell: Callable[[str], None]
    placed: Callable[[str], None]
    """Hears, by pool, that `waits` has changed."""
    life: Life | None = None
    task: asyncio.Task[None] | None = None
    ended: bool = False
    """It will not be started again."""
    ending: bool = False
    """It was told to drain, and ends with this life."""
    gone: bool = False
    """So far that the fleet counts it no more, though it may not have ended yet."""
    waits: str = ""
    """Why it has no place to run; empty where it has one, or is about to look for one."""
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))

    def line(self, text: str) -> None:
        self.last_lines.append(text)
        self.tell(f"{self.name}: {text}")

    def unplaced(self, why: str) -> None:
        if why and why != self.waits:
            self.tell(f"{self.name}: no room: {why}; it starts once there is")
        if bool(why) != bool(self.waits):
            self.waits = why
            self.placed(self.settings.pool)
        self.waits = why


class KeptFleet:
    """Keeps one worker alive for each of the given settings. A `Provisioner`."""

    def __init__(
        self,
        launcher: Launcher,
        workers: Sequence[WorkerSettings],
        *,
        tell: Callable[[str], None] = lambda line: None,
        gave_up: Callable[[str, ConfigError], None] | None = None,
        more: Callable[[str, int], WorkerSettings] | None = None,
        most: int | None = None,
        unplaced: Callable[[str, int], None] = lambda pool, n: None,
    ) -> None:
        """`tell` gets what workers print, a line at a time, and what happens to them. `gave_up`
        hears of a worker that cannot live, by name; without it `run` raises the error. `more`
        makes the settings of the pool's worker of this number, counted from 0; with it there may
        be no worker for a while, and `run` goes on until `stop`. It never makes them more than
        `most` in all. `unplaced` hears how many workers of a pool wait for room, when that
        changes."""
        self._launcher = launcher
        self._tell = tell
        self._gave_up = gave_up
        self._more = more
        self._most = most
        self._unplaced = unplaced
        self._n_unplaced: dict[str, int] = {}
        self._slots = [self._slot(settings) for settings in workers]
        self._group: asyncio.TaskGroup | None = None
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._stopped.set()

    async def run(self) -> None:
        """Returns when every worker has ended, after `stop` or by itself; none is left, however
        this ends. Raises `ConfigError` where a worker cannot live and nobody else is told."""
        self._stopped.clear()
        try:
            await self._launcher.open()
            async with asyncio.TaskGroup() as tasks:
                for slot in self._slots:
                    slot.task = tasks.create_task(self._keep(slot))
                if self._more is not None:
                    self._group = tasks
                    tasks.create_task(self._stopping.wait())
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            await self._launcher.close()
            self._stopped.set()

    def scale(self, pool: str, n: int) -> None:
        """Starts workers until the pool has `n`, those counted that are about to end. Where it has
        more already, those that wait for room do so no longer, and the others stay."""
        if self._more is None or self._group is None or self._stopping.is_set():
            return
        mine = [slot for slot in self._slots if slot.settings.pool == pool]
        living = [slot for slot in mine if not (slot.ended or slot.gone)]
        missing = n - len(living)
        waiting = [slot for slot in living if slot.waits]
        for slot in waiting[len(waiting) - max(min(-missing, len(waiting)), 0) :]:
            self._let_go(slot)
        room = missing if self._most is None else self._most - sum(not s.ended for s in self._slots)
        if room < missing:
            self._tell(f"{pool} is to have {n} workers; all in all {self._most} run here at most")
        for number in range(len(mine), len(mine) + min(missing, room)):
            slot = self._slot(self._more(pool, number))
            self._slots.append(slot)
            slot.task = self._group.create_task(self._keep(slot))

    def ending(self, spec: InstanceSpec) -> None:
        for slot in self._slots:
            if slot.name == spec.id:
                slot.ending = True

    def gone(self, spec: InstanceSpec) -> None:
        for slot in self._slots:
            if slot.name == spec.id:
                slot.gone = slot.ending

    async def stop(self, grace_s: float) -> None:
        """Lets every worker finish what is inside it; who takes longer than `grace_s` is killed."""
        self._stopping.set()
        for slot in self._slots:
            if slot.life is not None:
                slot.life.drain()
        try:
            async with asyncio.timeout(grace_s):
                await self._stopped.wait()
        except TimeoutError:
            for slot in self._slots:
                if slot.life is not None:
                    slot.life.kill()
            await self._stopped.wait()

    def _slot(self, settings: WorkerSettings) -> Slot:
        name = settings.name or f"worker of {settings.pool}"
        return Slot(settings, name, self._tell, self._count_unplaced)

    def _let_go(self, slot: Slot) -> None:
        slot.ended = True
        if slot.task is not None:
            slot.task.cancel()

    def _count_unplaced(self, pool: str) -> None:
        """Tells how many workers of the pool wait for room, where that has changed."""
        mine = [s for s in self._slots if s.settings.pool == pool and not s.ended]
        n = sum(bool(slot.waits) for slot in mine)
        if n != self._n_unplaced.get(pool, 0):
            self._n_unplaced[pool] = n
            self._unplaced(pool, n)

    async def _keep(self, slot: Slot) -> None:
        """One worker, life after life."""
        try:
            await self._lives(slot)
        finally:
            slot.ended = True
            slot.unplaced("")

    async def _lives(self, slot: Slot) -> None:
        delay_s, quick_deaths = FIRST_DELAY_S, 0
        while not self._stopping.is_set():
            begun_s = time.monotonic()
            end = await self._live(slot)
            if self._stopping.is_set():
                return
            if end.status == 0 or slot.ending:
                self._tell(f"{slot.name}: ended")
                return
            if time.monotonic() - begun_s >= STEADY_S:
                delay_s, quick_deaths = FIRST_DELAY_S, 0
            quick_deaths += not end.lost
            if not end.lost and (end.status == CANNOT_RUN or quick_deaths >= MAX_QUICK_DEATHS):
                self._give_up(slot, end)
                return
            self._tell(f"{slot.name}: {end.how}; starting it again in {delay_s:.1f} s")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._stopping.wait()
            delay_s = min(2 * delay_s, LAST_DELAY_S)

    def _give_up(self, slot: Slot, end: End) -> None:
        error = ConfigError(_epitaph(slot, end))
        if self._gave_up is None:
            raise error
        self._gave_up(slot.name, error)

    async def _live(self, slot: Slot) -> End:
        """One life; none is left, however this ends."""
        slot.last_lines.clear()
        slot.life = life = await self._launcher.launch(slot.settings, slot)
        try:
            if self._stopping.is_set():  # It came up while `stop` was looking.
                life.drain()
            return await life.ended()
        finally:
            life.kill()
            await life.ended()


def _epitaph(slot: Slot, end: End) -> str:
    """Why a worker is given up: its own message where it had one, else its last words."""
    lines = list(slot.last_lines)
    starts = [i for i, line in enumerate(lines) if line.startswith("error: ")]
    if end.status == CANNOT_RUN and starts:
        said = "\n".join(lines[starts[-1] :]).removeprefix("error: ")
        return f"worker {slot.name} cannot start: {said}"
    said = "\n  ".join(lines[-10:]) or "nothing"
    return (
        f"worker {slot.name} is given up: it {end.how}, and so did the ones before it, "
        f"within seconds. Its last words:\n  {said}"
    )
