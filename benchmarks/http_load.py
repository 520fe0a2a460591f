"""A light client for benchmarks of gateways, and what it measures: CPU, and times to first tokens.

As a program it keeps streams under way until its standard input closes:

    python benchmarks/http_load.py --to 127.0.0.1:8000 --streams 32
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import uvloop

HERE = Path(__file__).parent
MODEL = "fake-model"
ENDLESS = 100_000
"""`max_tokens` of streams that are to outlast the measurement."""
WARM_UP = 5
"""First tokens that are not counted."""


class HttpClient(asyncio.Protocol):
    """One connection. Answers are not parsed: it counts events, and knows where an answer ends."""

    def __init__(self) -> None:
        self.first_s: float | None = None
        """When the first event of the answer came."""
        self.n_events = 0
        self.tail = b""
        self.done: asyncio.Future[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def ask(self, request: bytes, until: bytes) -> asyncio.Future[None]:
        """Sends a request; the future is done when the answer ends with `until`."""
        self.first_s = None
        self.tail = b""
        self.until = until
        self.done = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self.done

    def data_received(self, data: bytes) -> None:
        if self.first_s is None:
            self.first_s = time.perf_counter()
            if not data.startswith(b"HTTP/1.1 200") and self.done is not None:
                self.done.set_exception(RuntimeError(f"the gateway answered {data[:400]!r}"))
                return
        self.n_events += data.count(b"data: ")
        self.tail = (self.tail + data)[-64:]
        if self.done is not None and self.tail.endswith(self.until) and not self.done.done():
            self.done.set_result(None)


def post(address: str, body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\nuser-agent: benchmark\r\n"
        f"accept: */*\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def chat(max_tokens: int, stream: bool) -> dict[str, Any]:
    messages = [{"role": "user", "content": "What is a fairlead, and what does it do on a ship?"}]
    return {
        "model": MODEL,
        "messages": messages,
        "max_tokens": max_tokens,
        "stream": stream,
        "seed": 1,
        "ignore_eos": True,
    }


async def connect(address: str) -> HttpClient:
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(HttpClient, host, int(port))
    return client


class Meter:
    """The gateway's process, seen from outside."""

    def __init__(self, pid: int, address: str) -> None:
        self._process = psutil.Process(pid)
        self._address = address

    def cpu_s(self) -> float:
        """CPU time of all its threads, and of the processes that it has started."""
        return sum(_cpu_s(process) for process in self._tree())

    def own_cpu_s(self) -> float:
        """The same without those that it has started."""
        return _cpu_s(self._process)

    async def spent(self, seconds: float, unit: str, count: Callable[[], int]) -> dict[str, float]:
        """CPU per token or request, whichever `unit` is counted, and its rate, in the next
        `seconds`."""
        n = -count()
        own_s, cpu_s, began = -self.own_cpu_s(), -self.cpu_s(), time.perf_counter()
        await asyncio.sleep(seconds)
        own_s, cpu_s = own_s + self.own_cpu_s(), cpu_s + self.cpu_s()
        lasted_s = time.perf_counter() - began
        n += count()
        if not n:
            raise RuntimeError(f"no {unit} came in {lasted_s:.0f} s")
        return {
            f"us_per_{unit}": 1e6 * cpu_s / n,
            f"own_us_per_{unit}": 1e6 * own_s / n,
            f"{unit}s_per_s": n / lasted_s,
        }

    def rss_mb(self) -> float:
        """Of all of them."""
        return sum(float(process.memory_info().rss) for process in self._tree()) / 1e6

    def _tree(self) -> list[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)]

    async def counter(self, name: str) -> float:
        """One of the gateway's own metrics."""
        host, _, port = self._address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        text = (await reader.read()).decode()
        writer.close()
        (line,) = [line for line in text.splitlines() if line.startswith(name + " ")]
        return float(line.split()[1])


def _cpu_s(process: psutil.Process) -> float:
    """In nanoseconds on Linux, in clock ticks elsewhere."""
    found = 0
    threads = [*Path(f"/proc/{process.pid}/task").glob("*/schedstat")]
    for thread in threads:
        with contextlib.suppress(OSError):  # It has just ended.
            found += int(thread.read_text().split()[0])
    if threads:
        return found / 1e9
    times = process.cpu_times()
    return float(times.user + times.system)


async def measure_streams(meter: Meter, address: str, n: int, seconds: float) -> dict[str, float]:
    """CPU per streamed token while `n` streams run."""
    async with streams(address, n) as clients:
        await asyncio.sleep(1.0)
        return await meter.spent(
            seconds, "token", lambda: sum(client.n_events for client in clients)
        )


@contextlib.asynccontextmanager
async def streams(address: str, n: int) -> AsyncIterator[list[HttpClient]]:
    """`n` streams that have begun, and go on until the block ends."""
    clients = [await connect(address) for _ in range(n)]
    request = post(address, chat(ENDLESS, stream=True))
    for client in clients:
        client.ask(request, b"[never]")
    async with asyncio.timeout(60):
        while any(client.first_s is None for client in clients):
            await asyncio.sleep(0.01)
    for client in clients:
        if client.done is not None and client.done.done():
            client.done.result()  # It was refused, which this raises.
    yield clients
    for client in clients:
        client.transport.abort()


class Asker(asyncio.Protocol):
    """Asks the same question again as soon as it is answered."""

    request: bytes
    n_done = 0
    stopped = False
    _data = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._data.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the gateway answered {data[:400]!r}")
        if not _is_whole(self._data):
            return
        self._data = b""
        self.n_done += 1
        if not self.stopped:
            self.transport.write(self.request)


def _is_whole(answer: bytes) -> bool:
    """Whether an answer that is not streamed has come to its end."""
    head, blank, body = answer.partition(b"\r\n\r\n")
    head = head.lower()
    at = head.find(b"content-length:")
    if not blank or at < 0:
        return bool(blank) and body.endswith(b"0\r\n\r\n")
    return len(body) >= int(head[at + 15 :].split(b"\r\n", 1)[0])


async def measure_requests(meter: Meter, address: str, n: int, seconds: float) -> dict[str, float]:
    """CPU per request with `n` clients that each ask for one token, again and again."""
    host, _, port = address.rpartition(":")
    kind = type("Asker", (Asker,), {"request": post(address, chat(1, stream=False))})
    loop = asyncio.get_running_loop()
    askers = [(await loop.create_connection(kind, host, int(port)))[1] for _ in range(n)]
    await asyncio.sleep(0.1)
    spent = await meter.spent(seconds, "request", lambda: sum(asker.n_done for asker in askers))
    for asker in askers:
        asker.stopped = True
    await asyncio.sleep(0.1)
    for asker in askers:
        asker.transport.abort()
    return spent


async def measure_ttft(address: str, n_streams: int, probes: int) -> list[float]:
    """Seconds to the first event of each probe, beside `n_streams - 1` others."""
    request = post(address, chat(1, stream=True))
    found = []
    with process("http_load.py", f"--to={address}", f"--streams={n_streams - 1}") as load:
        assert load.stdout is not None
        await asyncio.to_thread(load.stdout.readline)
        client = await connect(address)
        for _ in range(WARM_UP + probes):
            began = time.perf_counter()
            await client.ask(request, b"\r\n0\r\n\r\n")
            assert client.first_s is not None
            found.append(client.first_s - began)
            await asyncio.sleep(0.003)
        client.transport.abort()
    await asyncio.sleep(0.2)
    return found[WARM_UP:]


async def load(address: str, n: int) -> None:
    """`n` streams from a process of their own, until standard input closes."""
    async with streams(address, n):
        print("under way", flush=True)
        await asyncio.to_thread(sys.stdin.read)


@contextlib.contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, *arguments]
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE
    )
    try:
        yield child
    finally:
        child.terminate()
        child.wait()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--to", required=True, help="HOST:PORT")
    parser.add_argument("--streams", type=int, default=32)
    options = parser.parse_args()
    uvloop.run(load(options.to, options.streams))


if __name__ == "__main__":
    main()
