"""What the gateway costs: CPU per request and per streamed token, and added first-token latency.

    python benchmarks/gateway.py                # 256 streams at 50 tokens/s over 8 workers
    python benchmarks/gateway.py --small        # seconds; runs as a test
    python benchmarks/gateway.py --json out.json

One run measures everything. The gateway is a process of its own, with the real fleet, the default
policies and its metrics; its CPU time is read from outside. Workers speak the real wire and make
up tokens at the set pace, so that two cores suffice. "Direct" is the same client, speaking to the
same kind of worker over its wire, without a gateway between.

Then ours and others that are installed stand side by side before the same mock engines, which
speak the OpenAI API: LiteLLM's proxy, SGLang's and vLLM's routers. Give their programs, or have
them on the PATH:

    python benchmarks/gateway.py --litellm ~/venvs/litellm/bin/litellm
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import other_gateways
import uvloop
from fake_worker import SPEC
from http_load import (
    ENDLESS,
    WARM_UP,
    Meter,
    chat,
    measure_requests,
    measure_streams,
    measure_ttft,
    process,
)

from fairlead.fleet import Fleet
from fairlead.gateway import Gateway, GatewayConfig, ServedModel, calm_garbage_collector
from fairlead.latency import StepShape, load_profile
from fairlead.model import Objective, Request, RequestId, Sampling
from fairlead.policies.registry import build
from fairlead.worker import wire

TOKEN = "benchmark"
EMULATED = "h100-llama-3.1-8b"
ENDLESSLY = Sampling(temperature=0.0, ignore_eos=True)


class ByteTokenizer:
    """A token is a byte: tokenising is no cost of the gateway's, it is measured elsewhere."""

    vocab_size = 256
    takes_tools = False
    call_format = None

    def has_token(self, text: str) -> bool:
        return False

    def encode(self, text: str) -> Sequence[int]:
        return list(text.encode())

    def encode_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> Sequence[int]:
        return list("".join(f"{m['role']}: {m['content']}\n" for m in messages).encode())


# -------------------------------------------------------------------- the gateway's process


def new_gateway() -> Gateway:
    """With the default policies."""
    fleet = Fleet(
        build("routing", "prefix-load", {}, Random(0)),
        build("admission", "predicted", {}, Random(0)),
        models=[SPEC.model],
    )
    model = ServedModel(SPEC.model, ByteTokenizer(), max_context=131_072, pools=(SPEC.pool,))
    objectives = {"interactive": Objective("interactive", ttft_s=5.0, tpot_s=0.1)}
    config = GatewayConfig(token=TOKEN, listen="127.0.0.1:0")
    return Gateway(config, fleet, {model.name: model}, objectives, "interactive")


async def serve() -> None:
    """Until standard input closes."""
    gateway = new_gateway()
    await gateway.start()
    calm_garbage_collector()
    print(json.dumps({"http": gateway.address, "workers": gateway.workers_address}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await gateway.stop()


# -------------------------------------------------------------------- the floor


class Floor(asyncio.Protocol):
    """Writes a fixed answer to every request, or a fixed event at the streams' pace."""

    groups: list[list[Floor]]
    """Streams that get their events in one turn of the loop, as those of one worker do."""
    event = b"bd\r\ndata: " + b"x" * 181 + b"\n\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 403\r\n\r\n" + b"x" * 400 + b"}}}"

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if b'"stream": true' in data:
            self.transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
            min(self.groups, key=len).append(self)
        else:
            self.transport.write(self.answer)

    @classmethod
    def beat(cls, group: list[Floor], due_s: float, pace_s: float) -> None:
        group[:] = [stream for stream in group if not stream.transport.is_closing()]
        for stream in group:
            stream.transport.write(cls.event)
        loop = asyncio.get_running_loop()
        loop.call_at(due_s + pace_s, cls.beat, group, due_s + pace_s, pace_s)


async def serve_floor(n_groups: int, pace_s: float) -> None:
    Floor.groups = [[] for _ in range(n_groups)]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Floor, "127.0.0.1", 0)
    for k, group in enumerate(Floor.groups):
        Floor.beat(group, loop.time() + k * pace_s / n_groups, pace_s)
    host, port = server.sockets[0].getsockname()
    print(json.dumps({"http": f"{host}:{port}"}), flush=True)
    await asyncio.to_thread(sys.stdin.read)


# -------------------------------------------------------------------- what is measured


class DirectClient(asyncio.Protocol):
    """Stands where the gateway stands: workers dial it, it submits and sees first tokens."""

    workers: list[DirectClient]
    first: dict[str, asyncio.Future[float]]

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.splitter = wire.Splitter()

    def data_received(self, data: bytes) -> None:
        for payload in self.splitter.feed(data):
            message = wire.unpack_from_worker(payload)
            if isinstance(message, wire.Hello):
                self.send(wire.Welcome(message.spec.id, time.monotonic(), 0.5))
                self.workers.append(self)
            elif isinstance(message, wire.Frame):
                for row in message.rows:
                    waiting = self.first.pop(row.request, None)
                    if waiting is not None:
                        waiting.set_result(time.perf_counter())

    def send(self, message: wire.Message) -> None:
        self.transport.write(wire.pack(message))

    def submit(self, name: str, max_tokens: int) -> asyncio.Future[float]:
        prompt = ByteTokenizer().encode_chat(chat(1, False)["messages"])
        request = Request(
            RequestId(name), 0.0, len(prompt), max_tokens, sampling=ENDLESSLY, token_ids=prompt
        )
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.first[name] = future
        self.send(wire.Submit(request, 1, []))
        return future


async def measure_direct_ttft(n_streams: int, probes: int, options: Any) -> list[float]:
    """The same as `measure_ttft`, over the workers' wire."""
    workers: list[DirectClient] = []
    kind = type("Client", (DirectClient,), {"workers": workers, "first": {}})
    server = await asyncio.get_running_loop().create_server(kind, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    with WORKERS[options.engine](f"{host}:{port}", options):
        async with asyncio.timeout(30):
            while len(workers) < options.workers:
                await asyncio.sleep(0.01)
        others = [
            workers[k % len(workers)].submit(f"other{k}", ENDLESS) for k in range(n_streams - 1)
        ]
        await asyncio.gather(*others)
        found = []
        for k in range(WARM_UP + probes):
            began = time.perf_counter()
            found.append(await workers[k % len(workers)].submit(f"probe{k}", 1) - began)
            await asyncio.sleep(0.003)
        server.close()
    return found[WARM_UP:]


# -------------------------------------------------------------------- the whole


@contextlib.contextmanager
def fake_workers(address: str, options: argparse.Namespace) -> Iterator[None]:
    with process(
        "fake_worker.py",
        f"--join={address}",
        f"--token={TOKEN}",
        f"--n={options.workers}",
        f"--tokens-per-s={options.tokens_per_s}",
        "--eager",
    ):
        yield


@contextlib.contextmanager
def emulated_workers(address: str, options: argparse.Namespace) -> Iterator[None]:
    """Real worker processes with emulated engines, slowed down to the streams' pace."""
    per_worker = -(-options.streams // options.workers)
    shape = StepShape(decodes=per_worker, decode_context=500 * per_worker, sampled=per_worker)
    step_s = load_profile(EMULATED).latency_model().step_s(shape)
    command = [
        *(sys.executable, "-m", "fairlead", "worker", "--engine=emulated"),
        *(f"--join={address}", f"--model={SPEC.model}", f"--pool={SPEC.pool}"),
        *(f"--hardware={EMULATED}", f"--speed={step_s * options.tokens_per_s}"),
    ]
    environment = os.environ | {"FAIRLEAD_TOKEN": TOKEN}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    children = [
        subprocess.Popen(command, env=environment, **quiet)  # type: ignore[call-overload]
        for _ in range(options.workers)
    ]
    try:
        yield
    finally:
        for child in children:
            child.kill()
            child.wait()


WORKERS = {"fake": fake_workers, "emulated": emulated_workers}


async def run(options: argparse.Namespace) -> dict[str, Any]:
    results: dict[str, Any] = {
        "parameters": {
            name: getattr(options, name)
            for name in (
                "engine",
                "streams",
                "workers",
                "tokens_per_s",
                "clients",
                "seconds",
                "probes",
            )
        },
        "machine": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "uvloop": uvloop.__version__,
        },
    }
    async with ours(options) as (meter, http):
        results["streams"] = await measure_streams(meter, http, options.streams, options.seconds)
        await asyncio.sleep(0.5)
        results["requests"] = await measure_requests(meter, http, options.clients, options.seconds)
        through = {n: await measure_ttft(http, n, options.probes) for n in (1, options.streams)}
        results["rss_mb"] = meter.rss_mb()
    floor = ("--role=floor", f"--workers={options.workers}")
    with process("gateway.py", *floor, f"--tokens-per-s={options.tokens_per_s}") as child:
        assert child.stdout is not None
        http = json.loads(child.stdout.readline())["http"]
        meter = Meter(child.pid, http)
        results["floor"] = await measure_streams(meter, http, options.streams, options.seconds)
        results["floor"] |= await measure_requests(meter, http, options.clients, options.seconds)
    for n, found in through.items():
        direct = await measure_direct_ttft(n, options.probes, options)
        results[f"ttft_{'alone' if n == 1 else 'busy'}"] = {
            "streams": n,
            "gateway_us": 1e6 * statistics.median(found),
            "direct_us": 1e6 * statistics.median(direct),
            "added_us": 1e6 * (statistics.median(found) - statistics.median(direct)),
            "ratio": statistics.median(found) / statistics.median(direct),
        }
    return results


@contextlib.asynccontextmanager
async def ours(options: argparse.Namespace) -> AsyncIterator[tuple[Meter, str]]:
    """Our gateway with its workers, running."""
    with process("gateway.py", "--role=gateway") as child:
        assert child.stdout is not None
        addresses = json.loads(child.stdout.readline())
        meter = Meter(child.pid, addresses["http"])
        with WORKERS[options.engine](addresses["workers"], options):
            await until_ready(addresses["http"], options.workers, meter)
            yield meter, addresses["http"]


async def until_ready(address: str, n: int, meter: Meter) -> None:
    async with asyncio.timeout(30):
        while await meter.counter('fairlead_instances{state="up"}') < n:
            await asyncio.sleep(0.05)


def show(results: dict[str, Any], tell: Callable[[str], None] = print) -> None:
    p, s, r = results["parameters"], results["streams"], results["requests"]
    tell(
        f"{p['streams']} streams at {p['tokens_per_s']:g} tokens/s"
        f" over {p['workers']} {p['engine']} workers,"
        f" {p['seconds']:g} s; {p['clients']} clients with one-token requests,"
        f" {p['seconds']:g} s; {results['machine']['cores']} cores,"
        f" Python {results['machine']['python']}"
    )
    for unit, goal, found in (("token", 15, s), ("request", 150, r)):
        cost, floor = found[f"us_per_{unit}"], results["floor"][f"us_per_{unit}"]
        label = f"CPU per {'streamed ' if unit == 'token' else ''}{unit}"
        tell(
            f"{label:36}{cost:10.1f} µs   goal {goal}; floor {floor:.1f}, ratio {cost / floor:.2f};"
            f" at {found[f'{unit}s_per_s']:.0f} {unit}s/s"
        )
    for name in ("ttft_alone", "ttft_busy"):
        t = results[name]
        label = f"first token, {t['streams']} stream{'s' if t['streams'] > 1 else ''}"
        tell(
            f"{label:36}{t['gateway_us']:10.0f} µs   direct {t['direct_us']:.0f},"
            f" added {t['added_us']:.0f}, ratio {t['ratio']:.2f}"
        )
    tell(f"{'resident memory':36}{results['rss_mb']:10.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--engine",
        choices=list(WORKERS),
        default="fake",
        help="fake workers share one light process and answer first tokens at once; emulated ones"
        " are real, and want more than two cores",
    )
    parser.add_argument("--streams", type=int, default=256)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--tokens-per-s", type=float, default=50.0, help="of each stream")
    parser.add_argument("--clients", type=int, default=16, help="concurrent short requests")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--probes", type=int, default=300, help="first tokens measured")
    parser.add_argument("--small", action="store_true", help="a size that runs as a test")
    other_gateways.add_arguments(parser)
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    parser.add_argument("--role", choices=["gateway", "floor"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role == "gateway":
        uvloop.run(serve())
        return
    if options.role == "floor":
        uvloop.run(serve_floor(options.workers, 1 / options.tokens_per_s))
        return
    if options.small:
        options.streams, options.workers, options.seconds, options.probes = 16, 2, 0.5, 5
        options.repeats, options.beside = 1, 4
    results = uvloop.run(run(options))
    show(results)
    if options.repeats:
        others = uvloop.run(other_gateways.compare(options, lambda: ours(options)))
        other_gateways.show(others, options)
        results["side_by_side"] = others
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
