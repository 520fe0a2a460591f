"""The gateway: clients on one port, workers on another, and the fleet between them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Protocol

from fairlead.fleet.filling import Filling
from fairlead.gateway.batches.sender import Sender
from fairlead.gateway.checks.chain import Checks
from fairlead.gateway.config import GatewayConfig, is_loopback
from fairlead.gateway.driver import Core, Driver
from fairlead.gateway.http import HttpApp, Pages
from fairlead.gateway.hub import Hub
from fairlead.gateway.intake import Intake
from fairlead.gateway.listening import listen_all, name_of
from fairlead.gateway.served import ServedModel
from fairlead.gateway.server import HttpServer
from fairlead.gateway.tenants.door import Door, OpenDoor
from fairlead.gateway.window import WindowPages
from fairlead.model import ConfigError, Draining, Objective, RequestError, Tick
from fairlead.observe.metrics import Metrics
from fairlead.observe.window import Window
from fairlead.worker import tls


class Batches(Protocol):
    """Files and offline batches."""

    @property
    def pages(self) -> Pages: ...
    async def start(self) -> None: ...
    def drain(self) -> None:
        """No line is begun any more."""
        ...

    async def stop(self) -> None: ...


class Gateway:
    """Serves the OpenAI API with a fleet; `start`, then `drain`, or `stop` at once.

    It lives on the event loop that started it; uvloop halves its cost.
    """

    def __init__(
        self,
        config: GatewayConfig,
        fleet: Core,
        models: Mapping[str, ServedModel],
        objectives: Mapping[str, Objective],
        default_class: str,
        about: Mapping[str, Any] | None = None,
        door: Door | None = None,
        batches: Callable[[Sender], Batches] | None = None,
    ) -> None:
        """`about` is what `/v1/models` tells of the fleet beside its objectives: its name, its
        policies. Figures of a replay carry it. `door` knows the tenants; without one they are
        those of the configuration. `batches` makes the part that serves files and batches."""
        if default_class not in objectives:
            raise ConfigError(
                f"the default objective class {default_class!r} is not among {sorted(objectives)}"
            )
        self.config = config
        self.driver = Driver(fleet)
        self.metrics = Metrics(fleet.requests)
        self.driver.observers.append(self.metrics.observe)
        self.window = self._window(fleet, about or {}) if config.dashboard else None
        self.hub = Hub(config, self.driver, models)
        self._door = door or OpenDoor(config.api_keys)
        self._pools = {pool: None for model in models.values() for pool in model.pools}
        # Seeds for clients that gave none come from the operating system: this is the shell.
        self._checks = Checks(config.checks)
        if self._checks:
            self.metrics.show_also(self._checks.figures)
        intake = Intake(
            models, objectives, default_class, self.driver.clock, Random(), self._checks
        )
        self.app = HttpApp(
            config,
            self.driver,
            intake,
            models,
            objectives,
            self.missing_pools,
            self.metrics.exposition,
            {"default_objective": default_class, **(about or {})},
            self._door,
            self.window,
        )
        """The ASGI application, for tests without a port."""
        self._batches = (
            None if batches is None else batches(self._sender(fleet, intake, models, objectives))
        )
        if self._batches is not None:
            self.app.batches = self._batches.pages
        self._addresses: dict[str, str] = {}
        self._clients_tls = _tls(config.tls_cert, config.tls_key)
        self._admin_tls = None if is_loopback(config.admin_listen) else self._clients_tls
        self._workers_tls = _tls(
            config.workers_tls_cert, config.workers_tls_key, config.workers_tls_ca
        )
        self._servers: list[HttpServer] = []
        self._tick_timer: asyncio.TimerHandle | None = None

    def _sender(
        self,
        fleet: Core,
        intake: Intake,
        models: Mapping[str, ServedModel],
        objectives: Mapping[str, Objective],
    ) -> Sender:
        """Sends lines of batches, as many as leave the promised paces of the others alone."""
        paces = [o.tpot_s for o in objectives.values() if o.tpot_s is not None]
        filling = Filling(min(paces, default=None))
        return Sender(
            intake,
            self.driver,
            self._door,
            self.app.calls,
            models.__contains__,
            lambda model: fleet.spare(model, filling),
        )

    def _window(self, fleet: Core, about: Mapping[str, Any]) -> WindowPages:
        window = Window(self.metrics, fleet)
        self.driver.observers.append(window.observe)
        return WindowPages(window, self.driver.clock, about, self.config.max_watchers)

    @property
    def address(self) -> str:
        """Where clients connect, as HOST:PORT with the real port."""
        return self._addresses["listen"]

    @property
    def admin_url(self) -> str | None:
        """Where operators' pages are, if on a port of their own."""
        address = self._addresses.get("admin_listen")
        scheme = "https" if self._admin_tls else "http"
        return None if address is None else f"{scheme}://{address}"

    @property
    def workers_address(self) -> str:
        """Where workers connect, as HOST:PORT with the real port."""
        return self._addresses["workers_listen"]

    @property
    def local_workers_address(self) -> str:
        """Where workers of this machine connect, as HOST:PORT with the real port."""
        return self._addresses["local"]

    @property
    def url(self) -> str:
        return f"{'https' if self._clients_tls else 'http'}://{self.address}"

    def missing_pools(self) -> list[str]:
        """Pools without an instance; with none the fleet is ready."""
        present = self.hub.pools
        return [pool for pool in self._pools if pool not in present]

    async def start(self) -> None:
        """Listens on all ports. Raises `ConfigError` where one is taken, or a check does not
        work."""
        wanted = {"listen": self.config.listen, "workers_listen": self.config.workers_listen}
        if self._workers_tls is not None:
            wanted["local"] = "127.0.0.1:0"
        if self.config.admin_listen:
            wanted["admin_listen"] = self.config.admin_listen
        listeners = listen_all(wanted)
        try:
            await self._checks.start()
        except BaseException:
            for listener in listeners.values():
                listener.close()
            raise
        await self._door.start()
        self._addresses = {name: name_of(listener) for name, listener in listeners.items()}
        self._addresses.setdefault("local", self._addresses["workers_listen"])
        workers, local = listeners["workers_listen"], listeners.get("local")
        await self.hub.start(workers, self._workers_tls, local)
        clients = HttpServer(self.app, self.config, self._clients_tls)
        self._servers.append(clients)
        await clients.start(listeners["listen"])
        if self.config.admin_listen:
            admin = HttpServer(self.app.for_operators, self.config, self._admin_tls)
            self._servers.append(admin)
            await admin.start(listeners["admin_listen"])
        self._tick()
        if self._batches is not None:
            await self._batches.start()

    async def drain(self, timeout_s: float) -> None:
        """Takes nothing new, lets what is under way end for at most `timeout_s`, then stops."""
        self.app.draining = True
        if self._batches is not None:
            self._batches.drain()
        self.driver.handle(Draining())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.app.calls:
                    await asyncio.sleep(0.02)
        await self.stop()

    async def stop(self) -> None:
        """Ends every call with an error, hangs up on everybody, and closes all ports."""
        self.app.draining = True
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        if self._batches is not None:
            # Lines that are under way are run again by whoever goes on with their batches.
            await self._batches.stop()
        for call in list(self.app.calls):
            call.fail(_STOPPED)
        if self.window is not None:
            self.window.close()
        await asyncio.gather(*[server.stop() for server in self._servers])
        await self.hub.stop()
        await self._checks.stop()
        await self._door.stop()

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._tick_timer = loop.call_later(self.config.tick_s, self._tick)
        self.driver.handle(Tick())
        if self.window is not None:
            self.window.publish()


_STOPPED = RequestError(
    "this server stopped; try again",
    status=503,
    code="draining",
    kind="server_error",
    retry_after_s=1.0,
)


def calm_garbage_collector() -> None:
    """Sets the process up for a gateway: what is loaded stays, and garbage is looked for rarely.

    Nearly all of a gateway's objects die by reference count. By default the collector looks at the
    young ones several times per request, and now and then at everything that was ever imported,
    which together took an eighth of the CPU time. For a process that does nothing else.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _tls(cert: str, key: str, clients_ca: str = "") -> ssl.SSLContext | None:
    return tls.serving(cert, key, clients_ca) if cert else None
