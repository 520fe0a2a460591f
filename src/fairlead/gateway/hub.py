"""The workers' port: who they are, what they say, and when they are gone."""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import cast

import msgspec

from fairlead.gateway.config import GatewayConfig
from fairlead.gateway.driver import Driver
from fairlead.gateway.served import ServedModel
from fairlead.model import (
    FairleadError,
    Finished,
    HandedOff,
    InstanceDown,
    InstanceId,
    InstanceSpec,
    InstanceUp,
    Leaving,
    Preempted,
    ProtocolError,
    Refused,
    Reported,
    Tokens,
)
from fairlead.worker import wire

MAX_STRANGERS = 256
"""Connections that have not said who they are yet; more are hung up on."""
MAX_UNSENT_BYTES = 256 * 1024 * 1024
"""A worker that leaves this much unread has stopped living, whatever its heartbeats say."""
SILENT_BEATS = 10
"""Heartbeats that may be missed. A worker that dies closes its connection and is noticed at once;
this finds those that hang, and must spare one that waits for a core on a crowded machine."""
MAX_SAID_CHARS = 500
"""Of an engine's own words that a client is shown."""
PING_EVERY = 60
"""Sweeps between two readings of our clock that are sent to the workers."""


class Hub:
    """Accepts workers, turns what they say into events, and carries messages to them."""

    def __init__(
        self, config: GatewayConfig, driver: Driver, models: Mapping[str, ServedModel]
    ) -> None:
        self.config = config
        self.driver = driver
        self.workers: dict[InstanceId, WorkerLink] = {}
        """Those that were welcomed and are not gone."""
        self.strangers: set[WorkerLink] = set()
        self._models = models
        self._servers: list[asyncio.Server] = []
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._sweeps = 0
        self._swept_s = 0.0

    async def start(
        self,
        listener: socket.socket,
        tls: ssl.SSLContext | None = None,
        local: socket.socket | None = None,
    ) -> None:
        """`tls` is spoken by those who come through `listener`; through `local`, nobody does."""
        loop = asyncio.get_running_loop()
        patience_s = None if tls is None else self.config.hello_timeout_s
        self._servers.append(
            await loop.create_server(
                lambda: WorkerLink(self), sock=listener, ssl=tls, ssl_handshake_timeout=patience_s
            )
        )
        if local is not None:
            self._servers.append(await loop.create_server(lambda: WorkerLink(self), sock=local))
        self._swept_s = self.driver.clock()
        self._sweep_timer = loop.call_later(self.config.heartbeat_s, self._sweep)

    async def stop(self) -> None:
        """Hangs up on everybody. Workers that are not ours to stop will dial again."""
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        for link in [*self.workers.values(), *self.strangers]:
            link.hang_up("the gateway stopped")
        for server in self._servers:
            server.close()
            await server.wait_closed()

    @property
    def pools(self) -> set[str]:
        """Pools that have an instance."""
        return {link.spec.pool for link in self.workers.values() if link.spec is not None}

    def tell_all(self, message: wire.Message) -> None:
        for link in list(self.workers.values()):
            link.send(message)

    def admit(self, link: WorkerLink, hello: wire.Hello) -> None:
        """A stranger becomes an instance, or hears why not."""
        problem = self._objection(hello)
        if problem is not None:
            link.refuse(problem)
            return
        self._replace(hello.spec.incarnation)
        name = self._free_name(hello.spec)
        spec = dataclasses.replace(hello.spec, id=name)
        self.strangers.discard(link)
        self.workers[name] = link
        self.driver.links[name] = link
        link.welcome(spec)
        # What it still runs from before was moved when its old connection went.
        for request, attempt in hello.held:
            link.send(wire.Abort(request, attempt))
        try:
            self.driver.handle(InstanceUp(spec))
        except FairleadError as error:
            # Something in its description makes no sense, such as its latency coefficients.
            link.refuse(str(error))

    def leave(self, link: WorkerLink, why: str) -> None:
        """A connection is gone; if it was an instance, the fleet hears of it."""
        self.strangers.discard(link)
        if link.spec is not None and self.workers.get(link.spec.id) is link:
            del self.workers[link.spec.id]
            del self.driver.links[link.spec.id]
            self.driver.provisioner.gone(link.spec)
            self.driver.handle(InstanceDown(link.spec.id, why))

    def _objection(self, hello: wire.Hello) -> str | None:
        spec = hello.spec
        if hello.version != wire.VERSION:
            release = f" ({hello.fairlead})" if hello.fairlead else ""
            return (
                f"this gateway speaks version {wire.VERSION} of the workers' protocol, this "
                f"worker{release} speaks version {hello.version}; install the same Fairlead on both"
            )
        if not hmac.compare_digest(hello.token.encode(), self.config.token.encode()):
            return "wrong token; start the worker with the token that the gateway was given"
        model = self._models.get(spec.model)
        if model is None:
            return f"no model {spec.model!r} here; this gateway serves {', '.join(self._models)}"
        if spec.block_tokens != model.block_tokens:
            return (
                f"blocks of {spec.block_tokens} tokens, but {spec.model} is served here with "
                f"blocks of {model.block_tokens}; set the worker's block_tokens to that"
            )
        if min(spec.n_blocks, spec.max_sequences, spec.max_context) < 1 or spec.max_waiting < 0:
            return "n_blocks, max_sequences and max_context must be at least 1, max_waiting 0"
        if len(spec.id) > 128 or len(spec.pool) > 128:
            return "the names of an instance and of its pool have at most 128 characters"
        return None

    def _replace(self, incarnation: str) -> None:
        """A worker that dials again has left its old connection, whether we saw that or not."""
        for link in list(self.workers.values()):
            if incarnation and link.spec is not None and link.spec.incarnation == incarnation:
                link.hang_up("the worker connected again")

    def _free_name(self, spec: InstanceSpec) -> InstanceId:
        wanted = name = spec.id or spec.pool or "instance"
        n = 1
        while InstanceId(name) in self.workers:
            n += 1
            name = f"{wanted}-{n}"
        return InstanceId(name)

    def _sweep(self) -> None:
        """Hangs up on instances that have been silent for too long."""
        now = self.driver.clock()
        beat_s = self.config.heartbeat_s
        # A gateway that was itself held up has not listened: that silence proves nothing.
        awake = now - self._swept_s < 2 * beat_s
        self._swept_s = now
        self._sweeps += 1
        if self._sweeps % PING_EVERY == 0:
            self.tell_all(wire.Ping(now))
        for link in list(self.workers.values()):
            if not awake:
                link.heard_s = now
            elif now - link.heard_s > SILENT_BEATS * beat_s:
                link.hang_up(f"silent for {now - link.heard_s:.1f} s")
        self._sweep_timer = asyncio.get_running_loop().call_later(beat_s, self._sweep)


class WorkerLink(asyncio.Protocol):
    """One connection on the workers' port."""

    def __init__(self, hub: Hub) -> None:
        self.spec: InstanceSpec | None = None
        """Set once it was welcomed."""
        self.heard_s = 0.0
        """When anything last came from it."""
        self._leaving = False
        self._hub = hub
        self._driver = hub.driver
        self._splitter = wire.Splitter(wire.MAX_HELLO_BYTES)
        self._transport: asyncio.Transport | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._name = InstanceId("")
        self._hear: dict[type[wire.Message], Callable[..., None]] = {wire.Hello: self._hello}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop has transport classes of its own.
        self._transport = transport = cast(asyncio.Transport, transport)
        if len(self._hub.strangers) >= MAX_STRANGERS:
            transport.abort()
            return
        self._hub.strangers.add(self)
        wait_s = self._hub.config.hello_timeout_s
        self._patience = asyncio.get_running_loop().call_later(
            wait_s, self.refuse, f"no Hello within {wait_s:g} s"
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone(f"connection lost: {exc}" if exc else "connection closed")

    def data_received(self, data: bytes) -> None:
        self.heard_s = self._driver.clock()
        try:
            for payload in self._splitter.feed(data):
                message = wire.unpack_from_worker(payload)
                hear = self._hear.get(type(message))
                if hear is None:
                    raise ProtocolError(f"{type(message).__name__} out of turn")
                hear(message)
                if self._transport is None:
                    break
        except ProtocolError as error:
            self.refuse(str(error))

    @property
    def address(self) -> str:
        """Where other workers bring sequences to; empty where it takes none."""
        return self.spec.address if self.spec is not None else ""

    def send(self, message: wire.Message) -> None:
        if self._transport is None:
            return
        self._transport.write(wire.pack(message))
        if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self.hang_up("it does not read what it is sent")

    def welcome(self, spec: InstanceSpec) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self.spec = spec
        self._name = spec.id
        self._splitter.max_bytes = wire.MAX_MESSAGE_BYTES
        self._hear = {
            wire.Frame: self._frame,
            wire.Heartbeat: self._heartbeat,
            wire.Rejected: self._rejected,
            wire.Moved: self._moved,
            wire.Goodbye: self._goodbye,
        }
        self.send(wire.Welcome(spec.id, self._driver.clock(), self._hub.config.heartbeat_s))

    def refuse(self, why: str) -> None:
        """Says goodbye with the reason, and hangs up once that is sent."""
        if self._transport is not None:
            self._transport.write(wire.pack(wire.Goodbye(why)))
            self._transport.close()
        self._gone(why)

    def hang_up(self, why: str) -> None:
        """Cuts the connection; the worker may dial again."""
        if self._transport is not None:
            self._transport.abort()
        self._gone(why)

    def _gone(self, why: str) -> None:
        # Heard of more than once: when we hang up, and when the transport is closed.
        self._transport = None
        if self._patience is not None:
            self._patience.cancel()
        self._hub.leave(self, why)

    def _hello(self, message: wire.Hello) -> None:
        self._hub.admit(self, message)

    def _frame(self, message: wire.Frame) -> None:
        name, handle = self._name, self._driver.handle
        if message.rows:
            handle(Tokens(name, message.rows))
        for request, attempt in message.preempted:
            handle(Preempted(name, request, attempt))
        for end in message.ended:
            handle(Finished(name, end.request, end.attempt, end.reason, end.cached_tokens))

    def _heartbeat(self, message: wire.Heartbeat) -> None:
        # The worker tells when the picture was taken, on our clock as it knows it since our last
        # Ping. Taking the time of receipt instead would date a report that waited in a busy
        # socket later than dispatches which it cannot show.
        as_of_s = min(message.report.as_of_s, self.heard_s)
        report = msgspec.structs.replace(message.report, instance=self._name, as_of_s=as_of_s)
        self._driver.handle(Reported(report))
        if message.leaving and not self._leaving:
            self._leaving = True
            self._driver.handle(Leaving(self._name))

    def _rejected(self, message: wire.Rejected) -> None:
        said = message.said[:MAX_SAID_CHARS]
        self._driver.handle(
            Refused(self._name, message.request, message.attempt, message.why, said)
        )

    def _moved(self, message: wire.Moved) -> None:
        event = HandedOff(self._name, message.request, message.attempt, message.done)
        self._driver.handle(event)

    def _goodbye(self, message: wire.Goodbye) -> None:
        self.hang_up(f"it said goodbye: {message.why}")
