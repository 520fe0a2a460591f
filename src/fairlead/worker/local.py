"""Worker processes on this machine.

A worker gets its token through its standard input, which stays open as long as this process lives:
when it closes, the worker ends. So no worker outlives its fleet, however that dies, and the token
is seen neither in a list of processes nor in an environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Mapping, Sequence

from fairlead.model import ConfigError
from fairlead.worker.kept import Ears, End, KeptFleet
from fairlead.worker.settings import WorkerSettings

COMMAND = (sys.executable, "-m", "fairlead", "worker")


class LocalFleet(KeptFleet):
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
        """The same as for a `KeptFleet`; `command` takes the arguments of `fairlead worker`."""
        launcher = Processes(token, command)
        super().__init__(launcher, workers, tell=tell, gave_up=gave_up, more=more, most=most)

    @property
    def pids(self) -> Mapping[str, int]:
        """Process numbers of the workers that live now, by name."""
        return {
            slot.name: slot.life.pid
            for slot in self._slots
            if isinstance(slot.life, ProcessLife) and slot.life.living
        }


class Processes:
    """Starts workers as processes. A `Launcher`."""

    def __init__(self, token: str, command: Sequence[str] = COMMAND) -> None:
        self._token = token
        self._command = command

    async def open(self) -> None:
        """There is always a machine."""

    async def launch(self, settings: WorkerSettings, ears: Ears) -> ProcessLife:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            *settings.arguments(),
            "--parent-pipe",
            stdin=PIPE,
            stdout=DEVNULL,
            stderr=PIPE,
            # A Ctrl-C at the terminal is for us alone: workers are drained, not interrupted.
            start_new_session=True,
        )
        return ProcessLife(process, self._token, ears)

    async def close(self) -> None:
        """Every process has ended by now."""


class ProcessLife:
    """A worker's process. A `Life`."""

    def __init__(self, process: Process, token: str, ears: Ears) -> None:
        self._process = process
        self._ears = ears
        self._follow = asyncio.create_task(self._until_the_end(token))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def living(self) -> bool:
        return self._process.returncode is None

    async def ended(self) -> End:
        return await asyncio.shield(self._follow)

    def drain(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.living:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _until_the_end(self, token: str) -> End:
        await self._hand_token(token)
        await self._listen()
        status = await self._process.wait()
        return End(status, _how(status))

    async def _hand_token(self, token: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{token}\n".encode())
        with contextlib.suppress(ConnectionError):  # It died at once; its status tells.
            await self._process.stdin.drain()

    async def _listen(self) -> None:
        """Passes on what the worker prints, until it prints no more."""
        assert self._process.stderr is not None
        rest = b""
        while data := await self._process.stderr.read(4096):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._heard(line)
            rest = rest[-4096:]
        if rest:
            self._heard(rest)

    def _heard(self, line: bytes) -> None:
        self._ears.line(line.decode(errors="replace").rstrip())


def _how(status: int) -> str:
    if status >= 0:
        return f"died with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
