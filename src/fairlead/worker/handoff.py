"""The source's end of a hand-off between workers: carries out what `instance/handoff.py` commands.
The target's is in `receiver.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec

from fairlead.instance.handoff import (
    COPY_BYTES,
    Command,
    Commit,
    Copy,
    Freeze,
    Outgoing,
    Reserve,
)
from fairlead.instance.instance import Instance
from fairlead.model import (
    FairleadError,
    Handoff,
    HandoffWhy,
    InstanceId,
    ProtocolError,
    Request,
    RequestId,
)
from fairlead.worker.clock import GatewayClock
from fairlead.worker.executor import Executor
from fairlead.worker.link import Address
from fairlead.worker.peer_tls import PeerTls, dial
from fairlead.worker.peers import (
    Answer,
    Forget,
    Greeting,
    Image,
    Piece,
    Room,
    Whole,
    read,
)
from fairlead.worker.shared import Own, memory_for
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
    def peer_tls(self) -> PeerTls | None: ...
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
        self._memory = Own()
        """Where images are put; a target on this machine may see them there."""

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
        known_by = self._move.certificate
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await dial(address.host, address.port, self._host.peer_tls, known_by)
        try:
            self._greet(writer)
            while command is not None:
                if isinstance(command, Freeze):
                    command = await self._host.between_steps(self._freeze)
                    continue
                await self._say(command, writer)
                async with asyncio.timeout(ANSWER_S):
                    answer = await read(reader)
                if not isinstance(answer, Answer) or answer.n_cached is None:
                    break
                if isinstance(command, Commit):
                    self._outgoing.committed(self._host.clock.now_s())
                    self._host.left(self._move.request)
                    return True
                if isinstance(command, Reserve):
                    self._memory.seen(answer.sees_offer)
                    command = self._outgoing.reserved(answer.n_cached)
                else:
                    command = self._outgoing.copied()
            writer.write(pack(Forget(self._move.request, self._move.to_attempt)))
            return False
        finally:
            writer.close()
            self._memory.close()

    def _greet(self, writer: asyncio.StreamWriter) -> None:
        instance = self._host.instance
        sequence = instance.sequences.get(self._move.request)
        n_tokens = 0 if sequence is None else sequence.n_computed
        kv_bytes = n_tokens * instance.spec.kv_bytes_per_token
        self._memory = memory_for(writer, min(kv_bytes, COPY_BYTES))
        writer.write(pack(Greeting(self._host.token, self._memory.offer)))

    def _freeze(self) -> Command | None:
        return self._outgoing.frozen(self._host.clock.now_s())

    async def _say(self, command: Command, writer: asyncio.StreamWriter) -> None:
        kv = memoryview(b"")
        if isinstance(command, Copy):
            kv = await self._export(command.start, command.end)
        elif isinstance(command, Commit):
            kv = await self._export(command.start, command.exported.n_computed)
        image = Image(len(kv), self._memory.holds(kv))
        writer.write(pack(self._said(command, image)))
        if not image.is_shared:
            writer.write(kv)

    def _said(self, command: Command, image: Image) -> Message:
        match command:
            case Reserve(request, attempt, n_tokens):
                return Room(self._abroad(request), attempt, n_tokens)
            case Copy(request, attempt, _, end):
                return Piece(self._abroad(request), attempt, end, image)
            case Commit(attempt, _, exported):
                first_s = exported.first_token_s
                return Whole(
                    self._abroad(exported.request),
                    attempt,
                    list(exported.produced),
                    exported.n_computed,
                    None if first_s is None else self._host.clock.gateways(first_s),
                    exported.cached_tokens,
                    image,
                )
        raise AssertionError(f"{command} is not said to anybody")

    async def _export(self, start: int, end: int) -> memoryview:
        sequence = self._host.instance.sequences.get(self._move.request)
        if sequence is None:
            raise ProtocolError("the sequence has left")
        if start >= end:
            return memoryview(b"")
        place = self._memory.place
        return await self._host.executor.export_kv(sequence.blocks, start, end, place)

    def _abroad(self, request: Request) -> Request:
        """With times as everybody knows them."""
        return msgspec.structs.replace(
            request, arrival_s=self._host.clock.gateways(request.arrival_s)
        )
