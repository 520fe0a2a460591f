"""A sequence moves between workers on one machine, its KV through memory that both see; either end
may be killed at any word of it."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairlead.instance import handoff as protocol
from fairlead.model import FairleadError, Request, RequestId
from fairlead.worker import handoff, peers, receiver, shared, wire
from fairlead.worker.emulated import Emulated
from fairlead.worker.executor import Place
from fairlead.worker.link import Address
from fairlead.worker.peer_tls import PeerTls, peer_tls_of
from fairlead.worker.peers import Answer, Greeting, Piece, Said, Whole
from fairlead.worker.settings import WorkerSettings
from fairlead.worker.wire import Abort, Frame, Heartbeat, Hello, Move, Moved, Submit, Welcome
from fairlead.worker.worker import Worker
from tests.patience import PATIENCE_S
from tests.worker.fakes import (
    ByteWords,
    FakeGateway,
    WorkerLine,
    a_gateway,
    a_request,
    a_spec,
    a_worker,
    running,
    tokens_of,
)

KV_BYTES = 16 << 10
"""Of a token."""
COPY_BYTES = 2 << 20
"""A piece of KV is 128 tokens, and the prompt two pieces at least."""
PROMPT, OUTPUT, N_BLOCKS = 300, 1000, 128
STEP_S = 0.01
"""So slow that a hand-off is over long before the answer is."""
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])


class WithKv(Emulated):
    """Its tokens need no KV, but it knows how that should look, and takes nothing else."""

    async def export_kv(self, blocks: Seq[int], start: int, end: int, place: Place) -> memoryview:
        image = place(8 + (end - start) * KV_BYTES)
        image[:8] = start.to_bytes(8, "big")
        for i in range(end - start):
            image[8 + i * KV_BYTES : 8 + (i + 1) * KV_BYTES] = kv_of(start + i)
        return image

    async def import_kv(self, blocks: Seq[int], image: memoryview) -> None:
        start = int.from_bytes(image[:8], "big")
        for i in range((len(image) - 8) // KV_BYTES):
            if image[8 + i * KV_BYTES : 8 + (i + 1) * KV_BYTES] != kv_of(start + i):
                raise FairleadError(f"token {start + i} has another one's KV")


def kv_of(position: int) -> bytes:
    return bytes([position % 251]) * KV_BYTES


def a_kv_worker(address: Address, name: str, peer_tls: PeerTls | None = None) -> Worker:
    words = ByteWords()
    spec = a_spec(
        name,
        n_blocks=N_BLOCKS,
        latency={"base_s": STEP_S},
        kv_bytes_per_token=KV_BYTES,
    )
    executor = WithKv(words.passage, words.eos_token_id)
    return a_worker(address, spec=spec, executor=executor, words=words, peer_tls=peer_tls)


async def lines_of(gateway: FakeGateway) -> tuple[WorkerLine, WorkerLine, Hello]:
    """The source's, the target's, and what the target is."""
    lines: dict[str, tuple[WorkerLine, Hello]] = {}
    for _ in range(2):
        line = await gateway.line()
        hello = await line.hear(Hello)
        line.say(Welcome(hello.spec.id, now_s(), 0.1))
        lines[hello.spec.id] = line, hello
    return lines["source"][0], lines["target"][0], lines["target"][1]


def now_s() -> float:
    """On the gateway's clock."""
    return asyncio.get_running_loop().time()


async def comes_home(line: WorkerLine) -> None:
    """From now on, or soon, nothing is inside a worker, and every block can be used."""
    asked_s = now_s()

    def is_home(beat: Heartbeat) -> bool:
        report = beat.report
        free = report.free_blocks + report.cached_blocks
        return report.as_of_s > asked_s and not report.requests and free == N_BLOCKS

    await line.hear(Heartbeat, is_home)


async def begin(source: WorkerLine, target: Hello) -> None:
    """A sequence runs at the source, and is told to move."""
    request = a_long_request()
    source.say(Submit(request, 1, []))
    await source.hear(Frame)
    source.say(Move(request.id, 1, 2, target.spec.address, target.spec.certificate))


def a_long_request() -> Request:
    request = a_request(prompt=PROMPT, max_tokens=OUTPUT)
    return msgspec.structs.replace(request, token_ids=[i % 256 for i in range(PROMPT)])


@pytest.mark.parametrize("is_shared", [True, False])
async def test_all_kv_goes_through_shared_memory_where_there_is_any(
    is_shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Said] = []

    async def listening(reader: asyncio.StreamReader) -> Said:
        heard.append(await peers.read(reader))
        return heard[-1]

    monkeypatch.setattr(receiver, "read", listening)
    monkeypatch.setattr(protocol, "COPY_BYTES", COPY_BYTES)
    monkeypatch.setattr(shared, "LEAST_BYTES", 1)
    if is_shared and not shared.LINUX:
        pytest.skip("no such memory but on Linux")
    monkeypatch.setattr(shared, "LINUX", is_shared)
    async with (
        a_gateway() as gateway,
        running(a_kv_worker(gateway.address, "source")),
        running(a_kv_worker(gateway.address, "target")),
    ):
        source, target, hello = await lines_of(gateway)
        await begin(source, hello)
        assert (await source.hear(Moved)).done
        frames = [message for message in source.heard if isinstance(message, Frame)]
        check(frames + [await target.hear(Frame) for _ in range(3)])
        for line in (source, target):
            line.hang_up()
    images = [message for message in heard if isinstance(message, Piece | Whole)]
    assert len(images) >= 3
    assert all(message.image.n_bytes for message in images)
    assert all(message.image.is_shared == is_shared for message in images)


def check(frames: Seq[Frame]) -> None:
    """They say what is to be said at their place, each token once."""
    first, tokens = frames[0].rows[0].start, tokens_of(frames)
    assert tokens == list(ByteWords().passage(1, first, len(tokens)))


@pytest.mark.parametrize(
    "image",
    [
        peers.Image(4096, True),
        peers.Image(-1, True),
        peers.Image(-1, False),
        peers.Image(peers.MAX_BYTES + 1, False),
        peers.Image(1000, False),
    ],
    ids=["in memory that nobody lent", "negative, there", "negative", "too large", "cut off"],
)
async def test_an_image_that_does_not_come_ends_the_talk_and_nothing_leaks(
    image: peers.Image,
) -> None:
    async with a_gateway() as gateway, running(a_kv_worker(gateway.address, "target")):
        line = await gateway.line()
        hello = await line.welcome(heartbeat_s=0.1, gateway_time_s=now_s())
        where = Address.parse(hello.spec.address)
        reader, writer = await asyncio.open_connection(where.host, where.port)
        request = a_long_request()
        for message in (
            Greeting("secret", shared.Offer(os.getpid(), 0, "x", 4096)),
            peers.Room(request, 2, 100),
            Piece(request, 2, 100, image),
        ):
            writer.write(wire.pack(message))
        writer.write(b"ten bytes.")
        writer.write_eof()
        assert await peers.read(reader) == Answer(0, sees_offer=False)
        assert await reader.read() == b""
        writer.close()
        await comes_home(line)
        line.hang_up()


# ---------------------------------------------------------------- kill -9


class Fate:
    """Kills its process at one word of a hand-off, such as `("says", "Piece", 2)`: before it is
    said, or as soon as it is heard. An answer is called after the question."""

    def __init__(self, at: tuple[str, str, int] | None) -> None:
        self._at = at
        self._asked = ""
        self._n: dict[tuple[str, str], int] = {}

    def meet(self, what: str, message: object) -> None:
        if not isinstance(message, Answer):
            self._asked = type(message).__name__
        n = self._n[what, self._asked] = self._n.get((what, self._asked), 0) + 1
        if self._at == (what, self._asked, n):
            os.kill(os.getpid(), signal.SIGKILL)


def live(
    port: int, name: str, at: tuple[str, str, int] | None, papers: WorkerSettings | None
) -> None:
    """A worker in a process of its own; with papers, hand-offs go over TLS."""
    fate = Fate(at)

    def saying(message: Any) -> bytes:
        fate.meet("says", message)
        return wire.pack(message)

    async def hearing(reader: asyncio.StreamReader) -> Said:
        message = await peers.read(reader)
        fate.meet("hears", message)
        return message

    for end in (handoff, receiver):
        vars(end).update(pack=saying, read=hearing)
    vars(protocol).update(COPY_BYTES=COPY_BYTES)
    vars(shared).update(LEAST_BYTES=1)
    peer_tls = None if papers is None else peer_tls_of(papers)
    asyncio.run(a_kv_worker(Address("127.0.0.1", port), name, peer_tls).run())


@contextmanager
def processes(
    port: int, dying: str, at: tuple[str, str, int], papers: WorkerSettings | None = None
) -> Iterator[dict[str, ForkServerProcess]]:
    started = {
        name: PROCESSES.Process(
            target=live, args=(port, name, at if name == dying else None, papers), daemon=True
        )
        for name in ("source", "target")
    }
    try:
        for process in started.values():
            process.start()
        yield started
    finally:
        for process in started.values():
            process.kill()
            process.join()


ANSWERED = [("Room", 1), ("Piece", 1), ("Piece", 2), ("Whole", 1)]
SAID = [("Greeting", 1), *ANSWERED]


@pytest.mark.parametrize(
    ("dying", "at"),
    [
        *(("source", ("says", *word)) for word in SAID),
        *(("source", ("hears", *word)) for word in ANSWERED),
        *(("target", ("hears", *word)) for word in SAID),
        *(("target", ("says", *word)) for word in ANSWERED),
    ],
)
async def test_whoever_is_killed_at_whatever_word_the_other_has_all_or_nothing(
    dying: str, at: tuple[str, str, int]
) -> None:
    await all_or_nothing(dying, at)


async def all_or_nothing(
    dying: str, at: tuple[str, str, int], papers: WorkerSettings | None = None
) -> None:
    async with asyncio.timeout(3 * PATIENCE_S), a_gateway() as gateway:
        with processes(gateway.address.port, dying, at, papers) as worker:
            source, target, hello = await lines_of(gateway)
            await begin(source, hello)
            if dying == "target":
                await goes_on_at_the_source(source)
            elif at == ("hears", "Whole", 1):
                await goes_on_at_the_target(target)
            await until(lambda: worker[dying].exitcode == -signal.SIGKILL)
            await comes_home(target if dying == "source" else source)
            assert not memory_of(worker["target" if dying == "source" else "source"].pid)


async def goes_on_at_the_source(source: WorkerLine) -> None:
    assert not (await source.hear(Moved)).done
    for _ in range(3):
        await source.hear(Frame)
    check([message for message in source.heard if isinstance(message, Frame)])
    source.say(Abort(RequestId("r1"), 1))


async def goes_on_at_the_target(target: WorkerLine) -> None:
    check([await target.hear(Frame) for _ in range(3)])
    target.say(Abort(RequestId("r1"), 2))


def memory_of(pid: int | None) -> list[str]:
    """What a process still holds of memory that was lent."""
    if not shared.LINUX:
        return []
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    fds = [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()]
    return [name for name in maps + fds if "fairlead-kv" in name]


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.005)
