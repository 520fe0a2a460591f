"""The worker of a server that batches by itself: an instance while the server is well, nothing
while it is not."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fairlead.model import ConfigError, InstanceSpec
from fairlead.worker.opaque.circuit import Circuit
from fairlead.worker.opaque.errors import ServerError, What
from fairlead.worker.opaque.introduce import Asked, Facts, introduce
from fairlead.worker.opaque.life import Life
from fairlead.worker.opaque.setting import Setting

Latency = Mapping[str, float]


class OpaqueWorker:
    """Meets the server, lives with it, and when it is down waits until it is back. A server that
    is down at the start is waited for; one that is wrong is an error then, and a server that is
    down later."""

    def __init__(
        self,
        setting: Setting,
        asked: Asked,
        spec: Callable[[Facts, Latency], InstanceSpec],
        latency: Callable[[Facts], Coroutine[Any, Any, Latency]],
    ) -> None:
        """`spec` makes what the gateway is told; `latency` finds out, once, how fast the server
        is."""
        self._set = setting
        self._asked = asked
        self._spec = spec
        self._find_latency = latency
        self._latency: Latency | None = None
        self._circuit = Circuit()
        self._life: Life | None = None
        self._draining = asyncio.Event()

    async def run(self) -> str | None:
        """Serves until drained, and returns None, or until the gateway says goodbye, and returns
        its reason. Raises `FairleadError` for what a user can have got wrong."""
        try:
            while not self._draining.is_set():
                met = await self._meet()
                if met is None:
                    return None
                dismissed, down = await self._live(*met)
                if not down:
                    return dismissed
                self._circuit.open(down, time.monotonic())
                self._set.tell(f"{self._set.api.url} is down: {down}")
            return None
        finally:
            await self._set.api.close()

    def drain(self) -> None:
        """From now on nothing new is taken; `run` returns when what is inside has ended."""
        self._draining.set()
        if self._life is not None:
            self._life.drain()

    async def _live(self, spec: InstanceSpec, facts: Facts) -> tuple[str | None, str]:
        self._circuit.close(time.monotonic())
        self._life = Life(self._set, spec, facts, self._circuit)
        if self._draining.is_set():
            self._life.drain()
        try:
            return await self._life.run(), self._life.down
        finally:
            self._life = None

    async def _meet(self) -> tuple[InstanceSpec, Facts] | None:
        """The server, once it is well; None where nobody waits for it any more."""
        attempt, told = 0, self._circuit.down
        while True:
            again = attempt > 0 or bool(self._circuit.down)
            if again and await self._pause(self._circuit.pause_s(attempt)):
                return None
            try:
                facts, latency = await self._ask()
            except ServerError as trouble:
                why = _plainly(trouble)
            except ConfigError as error:
                if self._latency is None:
                    raise
                why = str(error)
            else:
                self._set.tell(f"{self._set.api.url}: {facts}")
                return self._spec(facts, latency), facts
            if why != told:
                url = self._set.api.url
                self._set.tell(f"{url} is not ready: {why}; waiting until it is")
                told = why
            attempt += 1

    async def _ask(self) -> tuple[Facts, Latency]:
        facts = await introduce(self._set.api, self._asked, self._set.words)
        if self._latency is None:
            self._latency = await self._find_latency(facts)
        return facts, self._latency

    async def _pause(self, seconds: float) -> bool:
        """True where it was told to drain meanwhile."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._draining.wait()
        return self._draining.is_set()


def _plainly(trouble: ServerError) -> str:
    if trouble.what is What.UNREACHABLE:
        return f"nobody answers there ({trouble})"
    return str(trouble)
