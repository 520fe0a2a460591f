"""The target's end of hand-offs between workers: the port where sequences come in."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import socket
from mmap import mmap

import msgspec

from fairlead.instance.instance import Exported
from fairlead.model import FairleadError, RefuseWhy, Request, RequestId
from fairlead.worker.handoff import ANSWER_S, Host
from fairlead.worker.link import Address
from fairlead.worker.peers import (
    Answer,
    Forget,
    Greeting,
    Piece,
    Room,
    Whole,
    read,
    read_image,
)
from fairlead.worker.shared import Own, borrow, let_go
from fairlead.worker.wire import pack

READ_BYTES = 512 << 10
"""Read ahead of whoever asks for it; less makes large images dearer."""


class Receiver:
    """The port where other workers bring sequences to."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._server: asyncio.Server | None = None
        self._calls: set[asyncio.Task[None]] = set()

    async def start(self, gateway: Address) -> str:
        """Listens where the gateway's side of the network is; HOST:PORT."""
        host = local_host(gateway)
        tls = self._host.peer_tls
        self._server = await asyncio.start_server(
            self._serve,
            host,
            0,
            limit=READ_BYTES,
            ssl=None if tls is None else tls.serving,
            ssl_handshake_timeout=None if tls is None else ANSWER_S,
        )
        return str(Address(host, self._server.sockets[0].getsockname()[1]))

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for call in self._calls:
            call.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        expected: tuple[RequestId, int] | None = None
        borrowed: mmap | None = None
        own = Own()
        try:
            async with asyncio.timeout(ANSWER_S):
                greeting = await read(reader)
            token = greeting.token if isinstance(greeting, Greeting) else ""
            if not hmac.compare_digest(token.encode(), self._host.token.encode()):
                return
            offer = greeting.offer if isinstance(greeting, Greeting) else None
            if offer is not None:
                borrowed = borrow(offer)
            while True:
                message = await read(reader)
                if isinstance(message, Forget) or not isinstance(message, Room | Piece | Whole):
                    return
                expected = (message.request.id, message.attempt)
                kv = memoryview(b"")
                if not isinstance(message, Room):
                    kv = await read_image(reader, message.image, borrowed, own)
                n_cached = await self._take(message, kv)
                writer.write(pack(Answer(n_cached, borrowed is not None)))
                if isinstance(message, Whole) and n_cached is not None:
                    expected = None
                    await writer.drain()
                    return
        except (OSError, EOFError, TimeoutError, FairleadError):
            pass
        finally:
            if expected is not None:
                self._drop(*expected)
            self._calls.discard(task)
            writer.close()
            if borrowed is not None:
                let_go(borrowed)

    def _drop(self, request: RequestId, attempt: int) -> None:
        """The source has changed its mind, or is gone."""
        instance = self._host.instance
        if instance.incoming_blocks(request, attempt) is not None:
            instance.abort(request, self._host.clock.now_s(), attempt)
            self._host.changed()

    async def _take(self, message: Room | Piece | Whole, kv: memoryview) -> int | None:
        host, instance, attempt = self._host, self._host.instance, message.attempt
        if not host.takes_in:
            return None
        request = msgspec.structs.replace(
            message.request, arrival_s=host.clock.ours(message.request.arrival_s)
        )
        if isinstance(message, Room):
            return self._reserve(request, attempt, message.n_tokens)
        end = message.end if isinstance(message, Piece) else message.n_computed
        if instance.incoming_blocks(request.id, attempt) is None:
            return None
        if self._reserve(request, attempt, end) is None:
            return None
        blocks = instance.incoming_blocks(request.id, attempt)
        assert blocks is not None
        if kv:
            await host.executor.import_kv(blocks, kv)
        return 0 if isinstance(message, Piece) else self._adopt(request, message)

    def _reserve(self, request: Request, attempt: int, n_tokens: int) -> int | None:
        host = self._host
        reserved = host.instance.reserve(request, attempt, n_tokens, host.clock.now_s())
        return None if isinstance(reserved, RefuseWhy) else reserved

    def _adopt(self, request: Request, message: Whole) -> int | None:
        host = self._host
        first_s = message.first_token_s
        exported = Exported(
            request,
            tuple(message.produced),
            message.n_computed,
            None if first_s is None else host.clock.ours(first_s),
            message.cached_tokens,
        )
        if not host.instance.adopt(exported, message.attempt, host.clock.now_s()):
            return None
        host.came(request, message.produced)
        host.changed()
        return 0


def local_host(gateway: Address) -> str:
    """Our own address on the way to the gateway."""
    with contextlib.suppress(OSError):
        for family, kind, _, _, where in socket.getaddrinfo(
            gateway.host, gateway.port, type=socket.SOCK_DGRAM
        ):
            with socket.socket(family, kind) as probe:
                probe.connect(where)  # Nothing is sent: only the route is looked up.
                name: str = probe.getsockname()[0]
                return name
    return "127.0.0.1"
