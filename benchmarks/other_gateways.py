"""Gateways side by side on the same mock engines: ours, and those of others that are installed.

`benchmarks/gateway.py` runs this. Each is started with as many engines behind it and asked the
same, one after the other, `--repeats` times; the table has the medians. CPU is that of the
gateway's process and of those that it has started. Ours stands in it twice: with workers of its
own wire, as it has with engines that it hosts (what they cost is the engines'), and with
`engine = "openai"`, where a worker of ours is beside every server and counts in full. What each
looks at to choose an engine is what it does by default.

Gateways that are found nowhere, by flag or on the PATH, are said to be missing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from http_load import (
    MODEL,
    Meter,
    chat,
    measure_requests,
    measure_streams,
    measure_ttft,
    post,
    process,
)

START_S = 120.0
LITELLM_PART = 1 / 16
"""A process of it carries about a thousand tokens a second."""
PROGRAMS = {
    "litellm": "LiteLLM proxy",
    "sglang-router": "SGLang's router",
    "vllm-router": "vLLM's router",
}
ENVIRONMENT = {
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # Nobody checks keys here.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # Else it asks the internet for prices.
}


@dataclass(frozen=True, slots=True)
class Gateway:
    """One that can be started."""

    name: str
    command: Callable[[Sequence[str], int, Path], list[str]]
    """From the engines' addresses, its own port, and a folder for its files."""
    part: float = 1.0
    """Of the streams that the others get: more than it can carry measures its queues."""


def found_gateways(options: argparse.Namespace) -> tuple[list[Gateway], list[str]]:
    """Those that are there, and what is said of the others."""
    gateways = [Gateway("fairlead, engine = openai", _fairlead)]
    missing = []
    for program, name in PROGRAMS.items():
        flag = program.replace("-", "_")
        path = getattr(options, flag, None) or shutil.which(program)
        if path is None or not Path(path).exists():
            missing.append(f"{name} is not installed (--{program} PATH)")
            continue
        if program == "litellm":
            gateways.append(Gateway(name, _litellm(str(path)), LITELLM_PART))
        else:
            gateways.append(Gateway(name, _router(str(path))))
    return gateways, missing


def _fairlead(engines: Sequence[str], port: int, folder: Path) -> list[str]:
    """Chats go through as they are, as they do at the others."""
    file = folder / "fleet.toml"
    file.write_text(
        f'[gateway]\nlisten = "127.0.0.1:{port}"\ndrain_s = 1.0\n[[pool]]\nmodel = "{MODEL}"\n'
        f'engine = "openai"\nurls = {json.dumps(list(engines))}\ntokenizer = "fairlead-nano"\n'
        'prompts = "chat"\nhardware = "h100-llama-3.1-8b"\nmax_context = 131072\n'
        "max_sequences = 512\nn_blocks = 65536\n"
    )
    return [sys.executable, "-m", "fairlead", "serve", str(file), "--quiet"]


def _litellm(program: str) -> Callable[[Sequence[str], int, Path], list[str]]:
    def command(engines: Sequence[str], port: int, folder: Path) -> list[str]:
        models = [
            {
                "model_name": MODEL,
                "litellm_params": {
                    "model": f"openai/{MODEL}",
                    "api_base": f"{engine}/v1",
                    "api_key": "none",
                },
            }
            for engine in engines
        ]
        file = folder / "litellm.json"  # JSON is YAML.
        settings = {
            "model_list": models,
            "litellm_settings": {"drop_params": True, "telemetry": False},
            # Clients that leave are no reason to rest an engine.
            "router_settings": {"disable_cooldowns": True, "num_retries": 0},
        }
        file.write_text(json.dumps(settings))
        file = file.rename(folder / "litellm.yaml")
        return [program, "--config", str(file), "--host", "127.0.0.1", "--port", str(port)]

    return command


def _router(program: str) -> Callable[[Sequence[str], int, Path], list[str]]:
    """The two Rust routers take the same arguments."""

    def command(engines: Sequence[str], port: int, folder: Path) -> list[str]:
        metrics = _free_port()
        return [
            program,
            *([] if program.endswith("vllm-router") else ["launch"]),
            *("--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(metrics)),
            *("--log-level", "error", "--worker-urls", *engines),
        ]

    return command


# -------------------------------------------------------------------- one of them


@contextlib.asynccontextmanager
async def running(gateway: Gateway, engines: Sequence[str]) -> AsyncIterator[tuple[Meter, str]]:
    """Started, and answering."""
    port = _free_port()
    address = f"127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = gateway.command(engines, port, Path(folder))
        environment = os.environ | ENVIRONMENT
        if not command[0].startswith(sys.prefix):
            environment.pop("PYTHONPATH", None)
        with log.open("wb") as output:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=folder,
                start_new_session=True,
            )
        try:
            await _until_it_answers(address, child, log)
            yield Meter(child.pid, address), address
        finally:
            _end(child)


async def _until_it_answers(address: str, child: subprocess.Popen[bytes], log: Path) -> None:
    request = post(address, chat(1, stream=False))
    deadline_s = asyncio.get_running_loop().time() + START_S
    while True:
        with contextlib.suppress(OSError, TimeoutError):
            reader, writer = await asyncio.open_connection(*address.split(":"))
            writer.write(request)
            async with asyncio.timeout(10):
                answer = await reader.readline()
            writer.close()
            if b" 200" in answer:
                return
        late = asyncio.get_running_loop().time() > deadline_s
        if late or child.poll() is not None:
            said = log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{child.args!r} does not answer:\n{said}")
        await asyncio.sleep(0.25)


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(15)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def measure(
    meter: Meter, address: str, options: argparse.Namespace, part: float = 1.0
) -> dict[str, Any]:
    """What one gateway costs, and how late its first tokens are."""
    n, beside = max(int(options.streams * part), 1), max(int(options.beside * part), 1)
    # Streams last: not everybody stops reading for clients that have left.
    found: dict[str, Any] = await measure_requests(meter, address, options.clients, options.seconds)
    await asyncio.sleep(0.5)
    times_s = await measure_ttft(address, beside, options.probes)
    found["ttft_us"] = [1e6 * time_s for time_s in times_s]
    await asyncio.sleep(0.5)
    found |= await measure_streams(meter, address, n, options.seconds)
    found["rss_mb"] = meter.rss_mb()
    return found


# -------------------------------------------------------------------- all of them


Ours = Callable[[], contextlib.AbstractAsyncContextManager[tuple[Meter, str]]]
"""Our gateway with engines of its own wire, running."""


async def compare(options: argparse.Namespace, ours: Ours) -> dict[str, Any]:
    """Every figure of every gateway, of each round; and those of the engines alone."""
    gateways, missing = found_gateways(options)
    results: dict[str, Any] = {"missing": missing, "rounds": [], "failed": {}}
    for _ in range(options.repeats):
        engines_command = ("mock_engine.py", f"--n={options.workers}")
        with process(*engines_command, f"--tokens-per-s={options.tokens_per_s}") as child:
            assert child.stdout is not None
            engines = json.loads(child.stdout.readline())
            direct = await measure_ttft(
                engines[0].removeprefix("http://"), options.beside, options.probes
            )
            round = {"direct": {"ttft_us": [1e6 * found_s for found_s in direct]}}
            async with ours() as (meter, address):
                round["fairlead, own workers"] = await measure(meter, address, options)
            for gateway in gateways:
                try:
                    async with running(gateway, engines) as (meter, address):
                        round[gateway.name] = await measure(meter, address, options, gateway.part)
                except (RuntimeError, TimeoutError, OSError) as error:
                    said = str(error) or type(error).__name__
                    results["failed"].setdefault(gateway.name, []).append(said)
            results["rounds"].append(round)
    return results


def show(results: dict[str, Any], options: argparse.Namespace) -> None:
    print(
        f"\nSide by side: {options.streams} streams at {options.tokens_per_s:g} tokens/s over "
        f"{options.workers} mock engines; {options.clients} clients with one-token requests; "
        f"{options.probes} first tokens beside {options.beside - 1} streams; medians of "
        f"{options.repeats}"
    )
    head = ("CPU, latency in us", "/token", "/request", "tokens/s", "requests/s", "added", "p99")
    print("{:28}{:>8}{:>9}{:>10}{:>12}{:>10}{:>10}".format(*head))
    names = dict.fromkeys(name for one in results["rounds"] for name in one if name != "direct")
    for name in names:
        rounds = [one for one in results["rounds"] if name in one]
        print(_line(name, rounds))
    if PROGRAMS["litellm"] in names:
        print(f"LiteLLM gets {LITELLM_PART:.0%} of the streams, which is what a process carries")
    for name, said in results["failed"].items():
        n = len(said)
        print(f"{name} failed in {n} of {options.repeats} rounds: {said[-1]}")
    for said in results["missing"]:
        print(said)


def _line(name: str, rounds: Sequence[dict[str, Any]]) -> str:
    def middle(of: Callable[[dict[str, Any]], float]) -> float:
        return statistics.median(of(one[name]) for one in rounds)

    added = [
        statistics.median(
            _part(one[name]["ttft_us"], part) - _part(one["direct"]["ttft_us"], part)
            for one in rounds
        )
        for part in (0.5, 0.99)
    ]
    return (
        f"{name:28}{middle(lambda one: one['us_per_token']):8.1f}"
        f"{middle(lambda one: one['us_per_request']):9.0f}"
        f"{middle(lambda one: one['tokens_per_s']):10.0f}"
        f"{middle(lambda one: one['requests_per_s']):12.0f}{added[0]:10.0f}{added[1]:10.0f}"
    )


def _part(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for program, name in PROGRAMS.items():
        parser.add_argument(f"--{program}", metavar="PATH", help=f"the program of {name}")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of the comparison; 0: none")
    parser.add_argument(
        "--beside", type=int, default=32, help="streams at which first tokens are compared"
    )
