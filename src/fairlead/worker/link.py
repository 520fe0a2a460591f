"""A worker's end of the wire: dials the gateway, and dials again whenever it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from fairlead.model import ConfigError, ProtocolError
from fairlead.worker.wire import (
    MAX_HELLO_BYTES,
    Goodbye,
    Hello,
    Message,
    Splitter,
    ToWorker,
    Welcome,
    pack,
    unpack_from_gateway,
)

FIRST_RETRY_S = 0.2
LAST_RETRY_S = 5.0
"""Delays between attempts double from the first to the last: a gateway that restarts is found
again within its own start-up time, one that is gone costs a connection attempt in five seconds."""
WELCOME_WITHIN_S = 10.0
FLUSH_WITHIN_S = 5.0
PAUSE_BYTES = 1024 * 1024
"""Unsent bytes at which the worker stops stepping: some thousand steps of a small batch."""
MAX_UNSENT_BYTES = 64 * 1024 * 1024
"""Unsent bytes at which the gateway counts as lost. Out of reach while stepping is paused, unless
it goes on asking without listening."""


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises `ConfigError` where `text` is not HOST:PORT (IPv6 hosts in brackets)."""
        host, colon, port = text.rpartition(":")
        if not (colon and host and port.isdecimal() and 0 < int(port) < 65536):
            raise ConfigError(
                f"cannot join {text!r}: expected HOST:PORT with a port between 1 and 65535, "
                "such as 127.0.0.1:8001"
            )
        return cls(host.removeprefix("[").removesuffix("]"), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Receiver(Protocol):
    """What a link serves."""

    def hello(self) -> Hello:
        """The first word of the next connection."""
        ...

    def welcomed(self, welcome: Welcome) -> None:
        """The gateway took us; `received` follows for everything else it says."""
        ...

    def received(self, message: ToWorker) -> None: ...

    def changed(self) -> None:
        """`Link.ready` may have changed."""
        ...


class Link:
    """The connection to one gateway, as it is now; `run` keeps it up."""

    def __init__(
        self,
        address: Address,
        receiver: Receiver,
        tell: Callable[[str], None] = lambda line: None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.address = address
        self.epoch = 0
        """Welcomes so far: tells answers of this connection from those of the last."""
        self._receiver = receiver
        self._tell = tell
        self._tls = tls
        # What a port hears that expects another kind of worker ends in silence.
        self._hint = (
            " (does it speak TLS? then give tls_ca)"
            if tls is None
            else " (does it not speak TLS, or want another tls_cert?)"
        )
        self._connection: _Connection | None = None
        self._leaving = False

    @property
    def connected(self) -> bool:
        return self._connection is not None

    @property
    def ready(self) -> bool:
        """True while the gateway is there and reads what it is sent."""
        return self._connection is not None and not self._connection.paused

    def send(self, *messages: Message) -> None:
        """Everything in one write. What is said while there is no gateway is lost, as it would
        have been a moment later."""
        if self._connection is not None:
            self._connection.write(b"".join(map(pack, messages)))

    async def leave(self, why: str) -> None:
        """Says goodbye, once and for all, when everything sent before has gone out."""
        self._leaving = True
        connection = self._connection
        if connection is not None:
            connection.write(pack(Goodbye(why)))
            connection.close()
            await asyncio.wait([connection.over], timeout=FLUSH_WITHIN_S)

    async def run(self) -> str | None:
        """Returns the reason when the gateway says goodbye to a worker it had welcomed, or None
        after `leave`. Raises `ConfigError` when it would not have us, `ProtocolError` when it is
        no gateway."""
        delay_s, told = FIRST_RETRY_S, ""
        while True:
            epoch = self.epoch
            try:
                why = await self._converse()
            except OSError as error:
                why = _plainly(error)
            if isinstance(why, Goodbye):
                return why.why
            if self._leaving:
                return None
            if self.epoch > epoch:
                delay_s, told = FIRST_RETRY_S, ""
            if why != told:
                self._tell(f"no gateway at {self.address}: {why}; trying again until there is")
                told = why
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, LAST_RETRY_S)

    async def _converse(self) -> Goodbye | str:
        """One connection, from dialling to its end; says why it ended."""
        connection = await self._dial()
        try:
            welcome = await self._handshake(connection)
            if welcome is None:
                return "it hung up without a welcome" + self._hint
            return await self._hold(connection, welcome)
        finally:
            self._connection = None
            connection.close()
            self._receiver.changed()

    async def _dial(self) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(WELCOME_WITHIN_S):
                transport, connection = await loop.create_connection(
                    _Connection, self.address.host, self.address.port, ssl=self._tls
                )
        except ssl.SSLCertVerificationError as error:
            raise ConfigError(
                f"the gateway at {self.address} does not show a certificate that tls_ca vouches "
                f"for: {error.verify_message}"
            ) from error
        except socket.gaierror as error:
            raise ConfigError(
                f"cannot join {self.address}: unknown host {self.address.host!r} "
                f"({error.strerror}); expected the HOST:PORT that `fairlead serve` printed"
            ) from error
        except TimeoutError:
            raise ConnectionError("it does not answer") from None
        _keep_alive(transport.get_extra_info("socket"))
        return connection

    async def _handshake(self, connection: _Connection) -> Welcome | None:
        connection.write(pack(_fitting(self._receiver.hello())))
        try:
            async with asyncio.timeout(WELCOME_WITHIN_S):
                first = await connection.first
        except TimeoutError:
            return None
        except ProtocolError as error:
            raise ProtocolError(f"{self.address} is not a Fairlead gateway: {error}") from error
        match first:
            case None | Welcome():
                return first
            case Goodbye(why):
                raise ConfigError(f"the gateway at {self.address} refused this worker: {why}")
        raise ProtocolError(
            f"{self.address} is not a Fairlead gateway: it said {type(first).__name__} "
            "where a welcome was expected"
        )

    async def _hold(self, connection: _Connection, welcome: Welcome) -> Goodbye | str:
        self.epoch += 1
        self._connection = connection
        self._receiver.welcomed(welcome)
        connection.listen(self._receiver.received, self._receiver.changed)
        self._receiver.changed()
        return await connection.over


class _Connection(asyncio.Protocol):
    """Bytes to messages and back. The first message is a future; the rest go to a callback, and
    those that came in the same breath as the first wait for it."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.first: asyncio.Future[ToWorker | None] = loop.create_future()
        self.over: asyncio.Future[Goodbye | str] = loop.create_future()
        self.paused = False
        self._splitter = Splitter()
        self._early: list[ToWorker] = []
        self._received: Callable[[ToWorker], None] = self._early.append
        self._changed: Callable[[], None] = lambda: None

    def listen(self, received: Callable[[ToWorker], None], changed: Callable[[], None]) -> None:
        self._received, self._changed = received, changed
        for message in self._early:
            received(message)
        self._early.clear()

    def write(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self._end("it does not read what it is sent")

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=PAUSE_BYTES)

    def data_received(self, data: bytes) -> None:
        try:
            for payload in self._splitter.feed(data):
                self._take(unpack_from_gateway(payload))
        except ProtocolError as error:
            if not self.first.done():
                self.first.set_exception(error)
            self._end(f"it sent garbage ({error})")

    def _take(self, message: ToWorker) -> None:
        if not self.first.done():
            self.first.set_result(message)
        elif isinstance(message, Goodbye):
            if not self.over.done():
                self.over.set_result(message)
        elif not self.over.done():
            self._received(message)

    def _end(self, why: str) -> None:
        if not self.over.done():
            self.over.set_result(why)
        self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.first.done():
            self.first.set_result(None)
        if not self.over.done():
            self.over.set_result("the connection was lost" if error else "it hung up")

    def pause_writing(self) -> None:
        self.paused = True
        self._changed()

    def resume_writing(self) -> None:
        self.paused = False
        self._changed()


def _fitting(hello: Hello) -> Hello:
    """The same, with as much of `held` as a gateway lets a stranger say."""
    held = hello.held
    while len(pack(hello)) > MAX_HELLO_BYTES and held:
        held = held[: len(held) // 2]
        hello = Hello(hello.version, hello.token, hello.spec, hello.fairlead, held)
    return hello


def _plainly(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there"
    return error.strerror or str(error) or type(error).__name__


def _keep_alive(sock: socket.socket | None) -> None:
    """Have the kernel notice, within half a minute, a gateway that vanished without a word."""
    if sock is None:
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
            if hasattr(socket, option):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)
