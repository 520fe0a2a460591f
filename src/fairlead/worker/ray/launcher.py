"""The gateway's end of a broker: starts it, tells it what to start, and hears what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace

from fairlead.model import ConfigError
from fairlead.worker.kept import Ears, End
from fairlead.worker.ray.orders import (
    AnyNews,
    AnyOrder,
    Connected,
    DrainLife,
    KillLife,
    NoRoom,
    NotConnected,
    Over,
    Said,
    Start,
    read_news,
    write,
)
from fairlead.worker.ray.reach import join_address
from fairlead.worker.ray.settings import Needs, RaySettings, require_ray
from fairlead.worker.settings import WorkerSettings

CONNECT_S = 60.0
"""Longest time that joining a cluster may take; two seconds are usual."""
AGAIN_S = 10.0
"""Between two attempts to join: each costs a process that loads Ray."""
KILL_S = 5.0
"""A cluster that does not say by then that an actor is dead is asked no more."""
MAX_NEWS_BYTES = 1 << 20
KEPT_LINES = 5


class RayLauncher:
    """Starts workers as actors. A `Launcher`."""

    def __init__(
        self,
        settings: RaySettings,
        token: str,
        needs: Mapping[str, Needs],
        listening: str,
    ) -> None:
        """`needs` by pool; `listening` is the gateway's port for workers, as HOST:PORT."""
        self._settings = settings
        self._token = token
        self._needs = needs
        self._listening = listening
        self._join_address = listening
        self._broker: _Broker | None = None
        self._joining = asyncio.Lock()
        self._tried_s = float("-inf")
        self._n_lives = 0

    async def open(self) -> None:
        require_ray()
        await self._join()

    async def launch(self, settings: WorkerSettings, ears: Ears) -> RayLife:
        self._n_lives += 1
        life = RayLife(self._n_lives, ears)
        try:
            broker = await self._join()
        except ConfigError as error:
            life.end(End(1, f"cannot start: {error}", lost=True))
            return life
        needs = self._needs.get(settings.pool, Needs())
        broker.start(
            life,
            Start(
                life.number,
                self._on_a_node(settings),
                self._token,
                needs.num_cpus,
                needs.num_gpus,
                needs.resources,
            ),
        )
        return life

    def _on_a_node(self, settings: WorkerSettings) -> WorkerSettings:
        own = self._settings
        return replace(
            settings,
            join=self._join_address,
            tls_ca=own.tls_ca,
            tls_cert=own.tls_cert,
            tls_key=own.tls_key,
            tls_peers_ca=own.tls_peers_ca,
        )

    async def close(self) -> None:
        if self._broker is not None:
            await self._broker.stop()

    async def _join(self) -> _Broker:
        """The broker, a new one where the last has died. Raises `ConfigError`."""
        async with self._joining:
            if self._broker is not None and self._broker.living:
                return self._broker
            loop = asyncio.get_running_loop()
            await asyncio.sleep(max(self._tried_s + AGAIN_S - loop.time(), 0.0))
            self._tried_s = loop.time()
            self._broker = broker = await _Broker.begin(self._settings.address)
            try:
                nodes = await broker.connected()
                self._join_address = join_address(self._settings.join, self._listening, nodes)
            except ConfigError:
                await broker.stop()
                raise
            return broker


class RayLife:
    """A worker in an actor. A `Life`."""

    def __init__(self, number: int, ears: Ears) -> None:
        self.number = number
        self.ears = ears
        self.send: Callable[[AnyOrder], None] = lambda order: None
        self._end: asyncio.Future[End] = asyncio.get_running_loop().create_future()

    async def ended(self) -> End:
        return await asyncio.shield(self._end)

    def drain(self) -> None:
        if not self._end.done():
            self.send(DrainLife(self.number))

    def kill(self) -> None:
        if not self._end.done():
            self.send(KillLife(self.number))
            loop = asyncio.get_running_loop()
            loop.call_later(KILL_S, self.end, End(1, "was stopped, without an answer", lost=True))

    def end(self, end: End) -> None:
        if not self._end.done():
            self._end.set_result(end)


class _Broker:
    """The process, and the lives in its hands."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._lives: dict[int, RayLife] = {}
        self._last_lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._joined: asyncio.Future[tuple[str, ...]] = asyncio.get_running_loop().create_future()
        self._tasks = [
            asyncio.create_task(self._listen()),
            asyncio.create_task(self._keep_last_lines()),
        ]

    @classmethod
    async def begin(cls, address: str) -> _Broker:
        command = (sys.executable, "-m", "fairlead.worker.ray.broker", address)
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            limit=MAX_NEWS_BYTES,
            start_new_session=True,  # A Ctrl-C at the terminal is for the gateway alone.
        )
        return cls(process)

    @property
    def living(self) -> bool:
        return self._process.returncode is None and not self._tasks[0].done()

    async def connected(self) -> tuple[str, ...]:
        try:
            async with asyncio.timeout(CONNECT_S):
                return await asyncio.shield(self._joined)
        except TimeoutError:
            raise ConfigError(
                f"the Ray cluster did not answer within {CONNECT_S:g} s; is ray.address the port "
                "that `ray start --head` printed?"
            ) from None

    def start(self, life: RayLife, order: Start) -> None:
        self._lives[life.number] = life
        life.send = self._send
        self._send(order)

    async def stop(self) -> None:
        """It ends when its input does, and its actors with it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(10.0):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _send(self, order: AnyOrder) -> None:
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():
            self._process.stdin.write(write(order))

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        try:
            while line := await self._process.stdout.readline():
                self._heard(read_news(line))
        finally:
            self._died()

    def _heard(self, news: AnyNews) -> None:
        if isinstance(news, Connected):
            self._joined.set_result(news.nodes)
        elif isinstance(news, NotConnected):
            self._joined.set_exception(ConfigError(news.why))
        elif life := self._lives.get(news.life):
            if isinstance(news, Said):
                life.ears.line(news.line)
            elif isinstance(news, NoRoom):
                life.ears.unplaced(news.why)
            elif isinstance(news, Over):
                del self._lives[news.life]
                life.end(End(news.status, news.how, news.lost))

    def _died(self) -> None:
        words = "; ".join(self._last_lines) or "no words"
        if not self._joined.done():
            self._joined.set_exception(ConfigError(f"Ray could not be joined: {words}"))
            self._joined.exception()  # Whoever asks hears of it; nobody has to.
        for life in self._lives.values():
            life.end(End(1, "was lost (the connection to the Ray cluster is gone)", lost=True))
        self._lives.clear()

    async def _keep_last_lines(self) -> None:
        assert self._process.stderr is not None
        while data := await self._process.stderr.read(65536):
            self._last_lines.extend(data.decode(errors="replace").splitlines())
