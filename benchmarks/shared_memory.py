"""What does it cost to bring KV from one worker to another on the same machine?

    python benchmarks/shared_memory.py [--mib 512] [--repeats 5]

Two processes with a KV pool each, shaped as a model of 8 billion parameters has it on two GPUs: 64
KiB a token, bfloat16. The one gathers pieces of 16 MB from its blocks and says so, the other
scatters them into its own and answers: over a loopback TCP connection, and through shared memory.
Told are the seconds of CPU at both ends, and the wall clock's.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from statistics import median

import torch
from rich.console import Console
from rich.table import Table

from fairlead.engine.pool import KvPool, KvShape
from fairlead.engine.transfer import KvImage, import_image, write_image
from fairlead.instance.handoff import COPY_BYTES
from fairlead.model import Request, RequestId
from fairlead.worker.peers import Answer, Greeting, Image, Piece, read, read_image
from fairlead.worker.receiver import READ_BYTES
from fairlead.worker.shared import MARGIN_BYTES, Lent, Own, borrow, let_go
from fairlead.worker.wire import pack

SHAPE = KvShape(layers=16, heads=8, head_dim=128, dtype=torch.bfloat16)
BLOCK_TOKENS = 16
REQUEST = Request(RequestId("r"), arrival_s=0.0, prompt_tokens=1, max_tokens=1)
Times = tuple[float, float, float]
"""Seconds of CPU at the source and at the target, and of the wall clock."""


class End:
    """One process: its pool, in which the sequence takes all blocks."""

    def __init__(self, mib: int) -> None:
        torch.set_num_threads(1)
        self.n_tokens = mib * 2**20 // SHAPE.token_bytes
        n_blocks = -(-self.n_tokens // BLOCK_TOKENS)
        self.pool = KvPool(SHAPE, n_blocks, BLOCK_TOKENS, torch.device("cpu"))
        for layer in self.pool.layers:
            layer.fill_(1.0)  # Else the first transfer would pay for its pages.
        self.blocks = [(block * 7919) % n_blocks for block in range(n_blocks)]

    async def send(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_shared: bool
    ) -> None:
        n_bytes = min(COPY_BYTES, self.n_tokens * SHAPE.token_bytes)
        memory = Lent(n_bytes + MARGIN_BYTES) if is_shared else Own()
        writer.write(pack(Greeting("", memory.offer)))
        answer = await read(reader)
        assert isinstance(answer, Answer)
        assert answer.sees_offer == is_shared, "the target does not see the memory"
        memory.seen(is_shared)
        size = COPY_BYTES // SHAPE.token_bytes
        for start in range(0, self.n_tokens, size):
            n = min(size, self.n_tokens - start)
            image = write_image(self.pool, "model", self.blocks, n, start, memory.place)
            said = Image(len(image), is_shared)
            assert is_shared == memory.holds(image)
            writer.write(pack(Piece(REQUEST, 1, start + n, said)))
            if not is_shared:
                writer.write(image)
            del image
            await read(reader)
        writer.close()
        memory.close()

    async def receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeting = await read(reader)
        assert isinstance(greeting, Greeting)
        borrowed = None if greeting.offer is None else borrow(greeting.offer)
        writer.write(pack(Answer(0, borrowed is not None)))
        own = Own()
        end = 0
        while end < self.n_tokens:
            piece = await read(reader)
            assert isinstance(piece, Piece)
            end = piece.end
            image = KvImage.from_bytes(await read_image(reader, piece.image, borrowed, own))
            import_image(self.pool, "model", image, self.blocks)
            del image
            writer.write(pack(Answer(0)))
        await writer.drain()
        writer.close()
        if borrowed is not None:
            let_go(borrowed)


def target(mib: int, pipe: Connection) -> None:
    asyncio.run(_target(End(mib), pipe))


async def _target(end: End, pipe: Connection) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pipe.send(await cpu_s(end.receive, reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=READ_BYTES)
    pipe.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def cpu_s(work: Callable[..., Awaitable[None]], *arguments: object) -> float:
    begun_s = time.process_time()
    await work(*arguments)
    return time.process_time() - begun_s


async def transfer(end: End, port: int, pipe: Connection, is_shared: bool) -> Times:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    begun_s = time.perf_counter()
    source_s = await cpu_s(end.send, reader, writer, is_shared)
    wall_s = time.perf_counter() - begun_s
    return source_s, await asyncio.to_thread(pipe.recv), wall_s


def measure(mib: int, repeats: int) -> dict[bool, list[Times]]:
    """By turns, so that a busy machine hits both alike; the first of each is not counted."""
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=target, args=(mib, theirs), daemon=True)
    process.start()
    try:
        end, port = End(mib), pipe.recv()
        found: dict[bool, list[Times]] = {False: [], True: []}
        for _ in range(1 + repeats):
            for is_shared, times in found.items():
                times.append(asyncio.run(transfer(end, port, pipe, is_shared)))
    finally:
        process.kill()
        process.join()
    return {is_shared: times[1:] for is_shared, times in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mib", type=int, nargs="+", default=[1, 4, 16, 128, 512])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    print(f"parameters: {vars(args)}; medians, and the least and the most CPU of one transfer")
    table = Table("KV", "through", "source", "target", "CPU", "least-most", "wall", "CPU, wall")
    for mib in args.mib:
        found = measure(mib, args.repeats)
        for is_shared, times in found.items():
            table.add_row(*cells(mib, is_shared, times, found[False]))
    Console(width=100).print(table)


def cells(mib: int, is_shared: bool, times: list[Times], tcp: list[Times]) -> list[str]:
    sums = [source_s + target_s for source_s, target_s, _ in times]
    cpu = median(s + t for s, t, _ in tcp) / median(sums)
    wall = median(w for _, _, w in tcp) / median(w for _, _, w in times)
    return [
        f"{mib} MiB",
        "memory" if is_shared else "TCP",
        *(f"{1e3 * median(column):.1f} ms" for column in list(zip(*times, strict=True))[:2]),
        f"{1e3 * median(sums):.1f} ms",
        f"{1e3 * min(sums):.1f}-{1e3 * max(sums):.1f}",
        f"{1e3 * median(w for _, _, w in times):.1f} ms",
        f"x{cpu:.1f}, x{wall:.1f}" if is_shared else "",
    ]


if __name__ == "__main__":
    main()
