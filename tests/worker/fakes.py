"""A gateway that does what a test says, and the parts of a worker that need no engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import TypeVar

from fairlead.instance.instance import Instance
from fairlead.latency.coefficients import from_coefficients
from fairlead.model import InstanceId, InstanceSpec, Request, RequestId, Sampling
from fairlead.policies import registry
from fairlead.worker.emulated import Emulated
from fairlead.worker.executor import Executor
from fairlead.worker.link import Address
from fairlead.worker.peer_tls import PeerTls
from fairlead.worker.streams import Streams
from fairlead.worker.wire import (
    Abort,
    Frame,
    Goodbye,
    Heartbeat,
    Hello,
    Message,
    Splitter,
    Submit,
    ToGateway,
    Welcome,
    pack,
    unpack_from_worker,
)
from fairlead.worker.words import Vocabulary
from fairlead.worker.worker import Worker
from tests.patience import PATIENCE_S

M = TypeVar("M")


class ByteWords:
    """A vocabulary of 257: the bytes of UTF-8, and the end-of-sequence token 256."""

    size = 257
    eos_token_id = 256

    def assembler(self, request: Request, produced: Sequence[int]) -> ByteAssembler:
        return ByteAssembler(request.sampling.stop, produced)

    def token_text(self, token_id: int) -> str:
        return bytes([token_id]).decode(errors="replace") if token_id < 256 else ""

    def passage(self, seed: int, start: int, n: int) -> Sequence[int]:
        """Text in which characters of several bytes abound."""
        random = Random(f"passage {seed}")
        text = "".join(random.choice("abc äöü ☃ 𝄞 stop ") for _ in range(64)).encode()
        return [text[i % len(text)] for i in range(start, start + n)]


class ByteAssembler:
    """Slow and obvious: text is a function of all tokens so far, and we say what is new in it."""

    def __init__(self, stop: tuple[str, ...], produced: Sequence[int]) -> None:
        self._stop = stop
        self._bytes = b""
        self._said = 0
        self.stopped_by = ""
        self.feed(produced)

    def feed(self, token_ids: Sequence[int]) -> tuple[str, bool]:
        self._bytes += bytes(token_ids)
        text = self._text()
        cuts = [text.index(stop) for stop in self._stop if stop in text]
        if cuts:
            self.stopped_by = min((text.index(s), s) for s in self._stop if s in text)[1]
        end = min(cuts) if cuts else len(text) - self._held_back(text)
        new = text[self._said : end]
        self._said = max(end, self._said)
        return new, bool(cuts)

    def flush(self) -> str:
        text = self._text()[self._said :]
        self._said += len(text)
        return text

    def _text(self) -> str:
        """Complete characters only."""
        for cut in range(4):
            try:
                return self._bytes[: len(self._bytes) - cut].decode()
            except UnicodeDecodeError:
                continue
        return self._bytes.decode(errors="replace")

    def _held_back(self, text: str) -> int:
        """Characters at the end that may be the start of a stop string."""
        return max(
            (n for stop in self._stop for n in range(len(stop)) if text.endswith(stop[:n])),
            default=0,
        )


def a_spec(name: str = "i0", **changes: object) -> InstanceSpec:
    settings: dict[str, object] = {
        "id": InstanceId(name),
        "pool": "default",
        "model": "m",
        "n_blocks": 256,
        "latency": {"base_s": 1e-4},
        "max_context": 2048,
        "incarnation": f"{name}-1",
    }
    return InstanceSpec(**{**settings, **changes})  # type: ignore[arg-type]


def a_request(
    name: str = "r1", *, prompt: int = 8, max_tokens: int = 16, **sampling: object
) -> Request:
    options: dict[str, object] = {"temperature": 0.0, "seed": 1, "ignore_eos": True, **sampling}
    return Request(
        RequestId(name),
        arrival_s=1000.0,
        prompt_tokens=prompt,
        max_tokens=max_tokens,
        sampling=Sampling(**options),  # type: ignore[arg-type]
        token_ids=[*range(prompt)],
    )


def a_worker(
    address: Address,
    *,
    spec: InstanceSpec | None = None,
    executor: Executor | None = None,
    words: ByteWords | Vocabulary | None = None,
    token: str = "secret",
    tell: Callable[[str], None] = lambda line: None,
    peer_tls: PeerTls | None = None,
) -> Worker:
    words = words or ByteWords()
    spec = spec or a_spec()
    batching = registry.build("batching", "fcfs", {}, Random(0))
    return Worker(
        Instance(spec, batching, from_coefficients(spec.latency)),
        executor or Emulated(words.passage, words.eos_token_id),
        Streams(words),
        gateway=address,
        token=token,
        n_vocabulary=words.size,
        tell=tell,
        peer_tls=peer_tls,
    )


class WorkerLine:
    """The gateway's end of one worker's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.heard: list[ToGateway] = []
        self._splitter = Splitter()
        self._ready: list[ToGateway] = []

    def say(self, *messages: Message) -> None:
        self.writer.write(b"".join(map(pack, messages)))

    async def next(self) -> ToGateway:
        """The worker's next message; EOFError where it hung up."""
        while not self._ready:
            data = await asyncio.wait_for(self.reader.read(65536), PATIENCE_S)
            if not data:
                raise EOFError
            self._ready += map(unpack_from_worker, self._splitter.feed(data))
        message = self._ready.pop(0)
        self.heard.append(message)
        return message

    async def hear(self, kind: type[M], where: Callable[[M], bool] = lambda m: True) -> M:
        """The next message of a kind; others are passed over."""
        while True:
            message = await self.next()
            if isinstance(message, kind) and where(message):
                return message

    async def hear_end_of(self, name: str) -> list[Frame]:
        """Every frame until the one with which a sequence ends."""
        frames: list[Frame] = []
        while not any(end.request == name for frame in frames for end in frame.ended):
            frames.append(await self.hear(Frame))
        return frames

    async def welcome(self, *, heartbeat_s: float = 5.0, gateway_time_s: float = 1000.0) -> Hello:
        hello = await self.hear(Hello)
        self.say(Welcome("i0", gateway_time_s, heartbeat_s))
        return hello

    def hang_up(self) -> None:
        transport = self.writer.transport
        transport.abort()


class FakeGateway:
    """Listens where workers dial; a test takes their connections one by one."""

    def __init__(self) -> None:
        self._lines: asyncio.Queue[WorkerLine] = asyncio.Queue()
        self.address = Address("127.0.0.1", 0)

    async def line(self) -> WorkerLine:
        return await asyncio.wait_for(self._lines.get(), PATIENCE_S)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._lines.put_nowait(WorkerLine(reader, writer))


@asynccontextmanager
async def a_gateway() -> AsyncIterator[FakeGateway]:
    gateway = FakeGateway()
    server = await asyncio.start_server(gateway.accept, "127.0.0.1", 0)
    gateway.address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
    try:
        yield gateway
    finally:
        server.close()


@asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[asyncio.Task[str | None]]:
    task = asyncio.ensure_future(worker.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def joined(**options: object) -> AsyncIterator[WorkerLine]:
    """A worker that was welcomed by a gateway, seen from the gateway."""
    async with a_gateway() as gateway:
        worker = a_worker(gateway.address, **options)  # type: ignore[arg-type]
        async with running(worker):
            line = await gateway.line()
            await line.welcome()
            yield line
            line.hang_up()


def text_of(frames: Sequence[Frame], name: str = "r1") -> str:
    return "".join(row.text for frame in frames for row in frame.rows if row.request == name)


def tokens_of(frames: Sequence[Frame], name: str = "r1") -> list[int]:
    """Its tokens, after a check that each position came once and in order."""
    tokens: list[int] = []
    rows = [row for frame in frames for row in frame.rows if row.request == name]
    first = rows[0].start
    for row in rows:
        assert row.start == first + len(tokens), f"{row} after {len(tokens)} tokens from {first}"
        tokens += row.token_ids
    return tokens


__all__ = [
    "Abort",
    "ByteWords",
    "FakeGateway",
    "Goodbye",
    "Heartbeat",
    "Submit",
    "a_gateway",
    "a_request",
    "a_spec",
    "a_worker",
    "joined",
    "running",
    "text_of",
    "tokens_of",
]
