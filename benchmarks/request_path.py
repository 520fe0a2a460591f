"""What a request costs the gateway's own code: CPU time from its bytes to those of its answer.

    python benchmarks/request_path.py                  # 12 rounds of 1,600 requests
    python benchmarks/request_path.py --workers 64     # each of them is asked for a prediction
    python benchmarks/request_path.py --rounds 1 --requests 16

There are no sockets: bytes go into a connection of the gateway's HTTP server, what it writes to a
worker goes to a fake one that answers with one token at once, and what comes out at the connection
is looked at. Everything between is as in production: the parser, checks, tokens and their blocks,
admission and routing by the default policies, the books, metrics, the window. What
`benchmarks/gateway.py` measures beyond this is the kernel's, and waking processes that sleep.

The rounds differ by what else the machine does; the best is the cleanest. A fixed loop of plain
Python is timed beside them: divide by it to compare two machines, or two moments.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import statistics
import sys
import time

import uvloop
from fake_worker import SPEC, FakeWorker
from http_load import chat, post

from fairlead.gateway import Gateway, calm_garbage_collector
from fairlead.gateway.hub import WorkerLink
from fairlead.instance import decoding
from fairlead.model import InstanceId
from gateway import TOKEN, new_gateway

TURNS = 3
"""Of the loop, after which all that could be done has been done."""
STAGES = ("received", "called", "answered")


class Wire(asyncio.Transport):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self._written: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._written.append(bytes(data))

    def taken(self) -> bytes:
        """What was written since it was last taken."""
        data = b"".join(self._written)
        self._written.clear()
        return data

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def abort(self) -> None: ...
    def close(self) -> None: ...


class Worker:
    """A fake worker and the gateway's end of its connection."""

    def __init__(self, gateway: Gateway, k: int) -> None:
        spec = dataclasses.replace(SPEC, id=InstanceId(f"w{k}"), incarnation=f"w{k}")
        self._fake = FakeWorker(spec, TOKEN)
        self._there, self._here = Wire(), Wire()
        self._link = WorkerLink(gateway.hub)
        self._link.connection_made(self._here)
        self._fake.connection_made(self._there)
        self._link.data_received(self._there.taken())

    def work(self) -> bytes:
        """One token of every sequence that it was sent, as it says it on the wire."""
        if data := self._here.taken():
            self._fake.data_received(data)
            self._fake.step()
        return self._there.taken()

    def say(self, data: bytes) -> None:
        if data:
            self._link.data_received(data)


class Bench:
    """A gateway, its workers, and connections that ask at the same time."""

    def __init__(self, gateway: Gateway, args: argparse.Namespace) -> None:
        self._workers = [Worker(gateway, k) for k in range(args.workers)]
        self._asked = post("127.0.0.1:1", chat(max_tokens=1, stream=False))
        server = gateway._servers[0]._server  # Its own way to a connection is a socket.
        protocol = server.config.http_protocol_class
        self._connections = []
        for _ in range(args.connections):
            connection = protocol(server.config, server.server_state, {})  # type: ignore[call-arg]
            wire = Wire()
            connection.connection_made(wire)
            self._connections.append((connection, wire))

    async def round(self, n: int) -> dict[str, float]:
        """Seconds of CPU by stage, of `n` requests on each connection."""
        spent = dict.fromkeys(STAGES, 0.0)
        for _ in range(n):
            start_s = time.process_time()
            for connection, _ in self._connections:
                connection.data_received(self._asked)
            received_s = time.process_time()
            await self._turn()
            called_s = time.process_time()
            frames = [worker.work() for worker in self._workers]
            worked_s = time.process_time()
            for worker, frame in zip(self._workers, frames, strict=True):
                worker.say(frame)
            await self._turn()
            answered_s = time.process_time()
            spent["received"] += received_s - start_s
            spent["called"] += called_s - received_s
            spent["answered"] += answered_s - worked_s
            for _, wire in self._connections:
                answer = wire.taken()
                assert answer.startswith(b"HTTP/1.1 200"), answer
        return spent

    def leave(self) -> None:
        for connection, _ in self._connections:
            connection.connection_lost(None)

    async def _turn(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)


async def measure(args: argparse.Namespace) -> None:
    gateway = new_gateway()
    await gateway.start()
    calm_garbage_collector()
    bench = Bench(gateway, args)
    n = max(args.requests // args.connections, 1)
    await bench.round(n)
    rounds = []
    print("us of CPU a request       all  received    called  answered  1 M loop")
    for k in range(args.rounds):
        spent = await bench.round(n)
        us = {stage: 1e6 * s / (n * args.connections) for stage, s in spent.items()}
        rounds.append(us)
        parts = " ".join(f"{us[stage]:9.1f}" for stage in STAGES)
        print(f"round {k + 1:<13} {sum(us.values()):9.1f} {parts} {plain_loop_ms():6.0f} ms")
    totals = [sum(us.values()) for us in rounds]
    print(f"best {min(totals):.1f} us a request, median {statistics.median(totals):.1f} us")
    bench.leave()
    await gateway.stop()


def plain_loop_ms() -> float:
    start_s, x = time.process_time(), 0
    for i in range(1_000_000):
        x += i
    return 1e3 * (time.process_time() - start_s)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=1600, help="of a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=12, help="(%(default)s)")
    parser.add_argument("--workers", type=int, default=8, help="(%(default)s)")
    parser.add_argument("--connections", type=int, default=16, help="(%(default)s)")
    args = parser.parse_args()
    if min(vars(args).values()) < 1:
        parser.error("all of these must be positive")
    compiled = "compiled" if str(decoding.__file__).endswith(".so") else "pure Python"
    print(
        f"core: {compiled}, Python {sys.version.split()[0]}; {args.workers} workers, "
        f"{args.connections} connections, {args.rounds} rounds of {args.requests} requests"
    )
    uvloop.run(measure(args))


if __name__ == "__main__":
    main()
