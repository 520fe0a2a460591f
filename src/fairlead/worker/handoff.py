"""Both ends of a hand-off between workers: carries out what `instance/handoff.py` commands."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import socket
from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec

from fairlead.instance.handoff import Command, Commit, Copy, Freeze, Outgoing, Reserve
from fairlead.instance.instance import Exported, Instance
from fairlead.model import (
    FairleadError,
    Handoff,
    HandoffWhy,
    InstanceId,
    ProtocolError,
    RefuseWhy,
    Request,
    RequestId,
)
from fairlead.worker.clock import GatewayClock
from fairlead.worker.executor import Executor
from fairlead.worker.link import Address
from fairlead.worker.peers import Answer, Forget, Greeting, Piece, Room, Whole, read
from fairlead.worker.wire import Message, Move, pack

ANSWER_S = 10.0
"""Longest wait for the other end; a copy that takes longer than this takes too long."""
T = TypeVar("T")


class Host(Protocol):
    """The worker, as hand-offs see it."""

    @property
    def instance(self) -> Instance: ...
    @property
    def executor(self) -> Executor: ...
    @property
    def clock(self) -> GatewayClock: ...
    @property
    def token(self) -> str: ...
    @property
    def takes_in(self) -> bool:
        """Whether sequences may come now."""
        ...

    async def between_steps(self, call: Callable[[], T]) -> T:
        """Called as soon as no step is under way."""
        ...

    def came(self, request: Request, produced: list[int]) -> None:
        """A sequence has been adopted."""
        ...

    def left(self, request: RequestId) -> None:
        """A sequence has gone."""
        ...

    def changed(self) -> None:
        """Something may be planned now that could not before."""
        ...


class Sender:
    """One hand-off, from the source's end."""

    def __init__(self, host: Host, move: Move) -> None:
        self._host = host
        self._move = move
        nobody = InstanceId("")
        order = Handoff(
            nobody, nobody, move.request, move.attempt, move.to_attempt, HandoffWhy.REBALANCE
        )
        self._outgoing = Outgoing(host.instance, order)

    async def run(self) -> bool:
        """Whether the target has it. Whatever goes wrong, the sequence is on one side, whole."""
        try:
            return await self._converse()
        except (OSError, EOFError, TimeoutError, FairleadError):
            return False
        finally:
            await self._host.between_steps(self._settle)

    def _settle(self) -> None:
        self._outgoing.failed(self._host.clock.now_s())
        self._host.changed()

    async def _converse(self) -> bool:
        command = self._outgoing.begin()
        if command is None:
            return False
        address = Address.parse(self._move.target)
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(address.host, address.port), ANSWER_S
        )
        try:
            writer.write(pack(Greeting(self._host.token)))
            while command is not None:
                if isinstance(command, Freeze):
                    command = await self._host.between_steps(self._freeze)
                    continue
                writer.write(pack(await self._said(command)))
                answer = await asyncio.wait_for(read(reader), ANSWER_S)
                if not isinstance(answer, Answer) or answer.n_cached is None:
                    break
                if isinstance(command, Commit):
                    self._outgoing.committed(self._host.clock.now_s())
                    self._host.left(self._move.request)
                    return True
                reserved = isinstance(command, Reserve)
                command = (
                    self._outgoing.reserved(answer.n_cached)
                    if reserved
                    else self._outgoing.copied()
                )
            writer.write(pack(Forget(self._move.request, self._move.to_attempt)))
            return False
        finally:
            writer.close()

    def _freeze(self) -> Command | None:
        return self._outgoing.frozen(self._host.clock.now_s())

    async def _said(self, command: Command) -> Message:
        match command:
            case Reserve(request, attempt, n_tokens):
                return Room(self._abroad(request), attempt, n_tokens)
            case Copy(request, attempt, start, end):
                return Piece(self._abroad(request), attempt, end, await self._image(start, end))
            case Commit(attempt, start, exported):
                first_s = exported.first_token_s
                return Whole(
                    self._abroad(exported.request),
                    attempt,
                    list(exported.produced),
                    exported.n_computed,
                    None if first_s is None else self._host.clock.gateways(first_s),
                    await self._image(start, exported.n_computed),
                )
        raise AssertionError(f"{command} is not said to anybody")

    async def _image(self, start: int, end: int) -> bytes:
        sequence = self._host.instance.sequences.get(self._move.request)
        if sequence is None:
            raise ProtocolError("the sequence has left")
        if start >= end:
            return b""
        return await self._host.executor.export_kv(sequence.blocks, start, end)

    def _abroad(self, request: Request) -> Request:
        """With times as everybody knows them."""
        return msgspec.structs.replace(
            request, arrival_s=self._host.clock.gateways(request.arrival_s)
        )


class Receiver:
    """The port where other workers bring sequences to."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._server: asyncio.Server | None = None
        self._calls: set[asyncio.Task[None]] = set()

    async def start(self, gateway: Address) -> str:
        """Listens where the gateway's side of the network is; HOST:PORT."""
        host = local_host(gateway)
        self._server = await asyncio.start_server(self._serve, host, 0)
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
        try:
            greeting = await asyncio.wait_for(read(reader), ANSWER_S)
            token = greeting.token if isinstance(greeting, Greeting) else ""
            if not hmac.compare_digest(token.encode(), self._host.token.encode()):
                return
            while True:
                message = await read(reader)
                if isinstance(message, Forget) or not isinstance(message, Room | Piece | Whole):
                    return
                expected = (message.request.id, message.attempt)
                n_cached = await self._take(message)
                writer.write(pack(Answer(n_cached)))
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

    def _drop(self, request: RequestId, attempt: int) -> None:
        """The source has changed its mind, or is gone."""
        instance = self._host.instance
        if instance.incoming_blocks(request, attempt) is not None:
            instance.abort(request, self._host.clock.now_s(), attempt)
            self._host.changed()

    async def _take(self, message: Room | Piece | Whole) -> int | None:
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
        if message.image:
            await host.executor.import_kv(blocks, message.image)
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
