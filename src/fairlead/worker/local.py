"""Worker processes on this machine: started, started again when they die, and stopped.

A worker gets its token through its standard input, which stays open as long as this process lives:
when it closes, the worker ends. So no worker outlives its fleet, however that dies, and the token
is seen neither in a list of processes nor in an environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fairlead.model import ConfigError
from fairlead.worker.settings import WorkerSettings

COMMAND = (sys.executable, "-m", "fairlead", "worker")
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


@dataclass(slots=True)
class _Slot:
    """One worker as it should be, and the process that it is now."""

    settings: WorkerSettings
    name: str
    process: Process | None = None
    ended: bool = False
    """It will not be started again."""
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)


class LocalFleet:
    """Keeps one process alive for each of the given workers."""

    def __init__(
        self,
        workers: Sequence[WorkerSettings],
        token: str,
        *,
        tell: Callable[[str], None] = lambda line: None,
        gave_up: Callable[[str, ConfigError], None] | None = None,
        command: Sequence[str] = COMMAND,
        more: Callable[[str, int], WorkerSettings] | None = None,
        most: int | None = None,
    ) -> None:
        """`tell` gets what workers print, a line at a time, and what happens to them. `gave_up`
        hears of a worker that cannot live, by name; without it `run` raises the error. `more`
        makes the settings of the pool's worker of this number, counted from 0; with it there may
        be no worker for a while, and `run` goes on until `stop`. It never makes them more than
        `most` in all."""
        self._slots = [
            _Slot(settings, settings.name or f"worker {i}") for i, settings in enumerate(workers)
        ]
        self._more = more
        self._most = most
        self._group: asyncio.TaskGroup | None = None
        self._token = token
        self._tell = tell
        self._gave_up = gave_up
        self._command = command
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._stopped.set()

    @property
    def pids(self) -> Mapping[str, int]:
        """Process numbers of the workers that live now, by name."""
        return {
            slot.name: slot.process.pid
            for slot in self._slots
            if slot.process is not None and slot.process.returncode is None
        }

    async def run(self) -> None:
        """Returns when every worker has ended, after `stop` or by itself; none is left, however
        this ends. Raises `ConfigError` where a worker cannot live and nobody else is told."""
        self._stopped.clear()
        try:
            async with asyncio.TaskGroup() as tasks:
                for slot in self._slots:
                    tasks.create_task(self._keep(slot))
                if self._more is not None:
                    self._group = tasks
                    tasks.create_task(self._stopping.wait())
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            self._stopped.set()

    def scale(self, pool: str, n: int) -> None:
        """Starts workers until the pool has `n`, those counted that are about to end."""
        if self._more is None or self._group is None or self._stopping.is_set():
            return
        mine = [slot for slot in self._slots if slot.settings.pool == pool]
        missing = n - sum(not slot.ended for slot in mine)
        room = missing if self._most is None else self._most - sum(not s.ended for s in self._slots)
        if room < missing:
            self._tell(f"{pool} is to have {n} workers; all in all {self._most} run here at most")
        for number in range(len(mine), len(mine) + min(missing, room)):
            settings = self._more(pool, number)
            slot = _Slot(settings, settings.name or f"worker {len(self._slots)}")
            self._slots.append(slot)
            self._group.create_task(self._keep(slot))

    async def stop(self, grace_s: float) -> None:
        """Lets every worker finish what is inside it; who takes longer than `grace_s` is killed."""
        self._stopping.set()
        for slot in self._slots:
            slot.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._stopped.wait(), grace_s)
        except TimeoutError:
            for slot in self._slots:
                slot.signal(signal.SIGKILL)
            await self._stopped.wait()

    async def _keep(self, slot: _Slot) -> None:
        """One worker, life after life."""
        try:
            await self._lives(slot)
        finally:
            slot.ended = True

    async def _lives(self, slot: _Slot) -> None:
        delay_s, quick_deaths = FIRST_DELAY_S, 0
        while not self._stopping.is_set():
            begun_s = time.monotonic()
            status = await self._live(slot)
            if self._stopping.is_set():
                return
            if status == 0:
                self._tell(f"{slot.name}: ended")
                return
            if time.monotonic() - begun_s >= STEADY_S:
                delay_s, quick_deaths = FIRST_DELAY_S, 0
            quick_deaths += 1
            if status == CANNOT_RUN or quick_deaths >= MAX_QUICK_DEATHS:
                self._give_up(slot, status)
                return
            self._tell(f"{slot.name}: {_how(status)}; starting it again in {delay_s:.1f} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay_s)
            delay_s = min(2 * delay_s, LAST_DELAY_S)

    def _give_up(self, slot: _Slot, status: int) -> None:
        error = ConfigError(_epitaph(slot, status))
        if self._gave_up is None:
            raise error
        self._gave_up(slot.name, error)

    async def _live(self, slot: _Slot) -> int:
        """One process from start to end; returns its status, negative for a signal."""
        slot.last_lines.clear()
        process = await asyncio.create_subprocess_exec(
            *self._command,
            *slot.settings.arguments(),
            "--parent-pipe",
            stdin=PIPE,
            stdout=DEVNULL,
            stderr=PIPE,
            # A Ctrl-C at the terminal is for us alone: workers are drained, not interrupted.
            start_new_session=True,
        )
        slot.process = process
        try:
            if self._stopping.is_set():  # It came up while `stop` was looking.
                slot.signal(signal.SIGTERM)
            await self._hand_token(process)
            await self._listen(slot, process)
            return await process.wait()
        finally:
            if process.returncode is None:
                slot.signal(signal.SIGKILL)
                await process.wait()

    async def _hand_token(self, process: Process) -> None:
        assert process.stdin is not None
        process.stdin.write(f"{self._token}\n".encode())
        with contextlib.suppress(ConnectionError):  # It died at once; its status tells.
            await process.stdin.drain()

    async def _listen(self, slot: _Slot, process: Process) -> None:
        """Passes on what the worker prints, until it prints no more."""
        assert process.stderr is not None
        rest = b""
        while data := await process.stderr.read(4096):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._heard(slot, line)
            rest = rest[-4096:]
        if rest:
            self._heard(slot, rest)

    def _heard(self, slot: _Slot, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        slot.last_lines.append(text)
        self._tell(f"{slot.name}: {text}")


def _how(status: int) -> str:
    if status >= 0:
        return f"died with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def _epitaph(slot: _Slot, status: int) -> str:
    """Why a worker is given up: its own message where it had one, else its last words."""
    lines = list(slot.last_lines)
    starts = [i for i, line in enumerate(lines) if line.startswith("error: ")]
    if status == CANNOT_RUN and starts:
        said = "\n".join(lines[starts[-1] :]).removeprefix("error: ")
        return f"worker {slot.name} cannot start: {said}"
    said = "\n  ".join(lines[-10:]) or "nothing"
    return (
        f"worker {slot.name} is given up: it {_how(status)}, and so did the ones before it, "
        f"within seconds. Its last words:\n  {said}"
    )
