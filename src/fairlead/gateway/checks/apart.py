"""A check in processes of its own.

Threads would not do: a check that computes in Python holds the interpreter, and every stream with
it; and a thread that hangs can never be ended. A process that takes too long is killed, and another
one is started in its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass

import msgspec

from fairlead.checks.child import Order, Said
from fairlead.checks.making import BrokenError
from fairlead.checks.protocol import CheckedCall, Verdict
from fairlead.gateway.checks.config import CheckConfig
from fairlead.model import ConfigError

MAX_WAITING = 256
"""Calls that wait for a process; each holds its prompt."""
MAX_ANSWER_BYTES = 64 * 1024 * 1024
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
"""Before a process is started again, each time twice as long."""
COMMAND = (sys.executable, "-P", "-m", "fairlead.checks.child")


@dataclass(slots=True, eq=False)
class _Asked:
    call: CheckedCall
    verdict: asyncio.Future[Verdict]


class Apart:
    """Deals calls out to processes, one at a time to each."""

    def __init__(self, config: CheckConfig) -> None:
        self._config = config
        self._asked: asyncio.Queue[_Asked] = asyncio.Queue(MAX_WAITING)
        self._slots: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Raises `ConfigError` where a process cannot be made ready."""
        loop = asyncio.get_running_loop()
        ready = [loop.create_future() for _ in range(self._config.processes)]
        self._slots = [asyncio.create_task(self._slot(one)) for one in ready]
        try:
            await asyncio.gather(*ready)
        except BrokenError as error:
            await self.stop()
            raise ConfigError(f"the check {self._config.name!r} cannot be made: {error}") from None

    async def ask(self, call: CheckedCall) -> Verdict:
        """Raises `BrokenError`."""
        asked = _Asked(call, asyncio.get_running_loop().create_future())
        try:
            self._asked.put_nowait(asked)
        except asyncio.QueueFull:
            raise BrokenError("too-many-wait") from None
        return await asked.verdict

    async def stop(self) -> None:
        for slot in self._slots:
            slot.cancel()
        await asyncio.gather(*self._slots, return_exceptions=True)

    def _ask_another(self, asked: _Asked) -> None:
        try:
            self._asked.put_nowait(asked)
        except asyncio.QueueFull:
            _fail(asked, BrokenError("too-many-wait"))

    async def _slot(self, ready: asyncio.Future[None]) -> None:
        """One process after the other."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                async with _process(self._config) as process:
                    if not ready.done():
                        ready.set_result(None)
                    pause_s = FIRST_PAUSE_S if await self._serve(process) else pause_s
            except BrokenError as error:
                if not ready.done():
                    ready.set_exception(error)
                    return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _serve(self, process: Process) -> bool:
        """Until it fails; whether it had given a verdict before."""
        proven = False
        while True:
            asked = await self._asked.get()
            if asked.verdict.done():
                continue  # Whoever asked has waited long enough.
            if process.returncode is not None:
                self._ask_another(asked)  # It had died before.
                return proven
            try:
                said = await _exchange(process, asked.call, self._config.timeout_s)
            except BrokenError as error:
                _fail(asked, error)
                return proven
            except BaseException:
                _fail(asked, BrokenError("stopped"))
                raise
            proven = True
            if said.verdict is None:
                _fail(asked, BrokenError(said.broken))
            elif not asked.verdict.done():
                asked.verdict.set_result(said.verdict)


def _fail(asked: _Asked, error: BrokenError) -> None:
    if not asked.verdict.done():
        asked.verdict.set_exception(error)


@contextlib.asynccontextmanager
async def _process(config: CheckConfig) -> AsyncIterator[Process]:
    """A process that has made its check; killed at the end. Raises `BrokenError`."""
    # A session of its own: Ctrl-C at the terminal is for the gateway, which drains.
    try:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, start_new_session=True
        )
    except OSError as error:
        raise BrokenError(f"no process: {error.strerror}") from None
    try:
        order = Order(config.use, dict(config.params), sys.path)
        said = await _exchange(process, order, config.start_s)
        if said.broken:
            raise BrokenError(said.broken)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _exchange(process: Process, said: object, timeout_s: float) -> Said:
    """One question and its answer. Raises `BrokenError`."""
    data = msgspec.msgpack.encode(said)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(timeout_s):
            process.stdin.write(len(data).to_bytes(4, "big") + data)
            await process.stdin.drain()
            size = int.from_bytes(await process.stdout.readexactly(4), "big")
            if size > MAX_ANSWER_BYTES:
                raise BrokenError("nonsense")
            return msgspec.msgpack.decode(await process.stdout.readexactly(size), type=Said)
    except TimeoutError:
        raise BrokenError("timeout") from None
    except (OSError, EOFError, RuntimeError):  # The last is what uvloop says of a closed pipe.
        raise BrokenError("died") from None
    except msgspec.MsgspecError:
        raise BrokenError("nonsense") from None
