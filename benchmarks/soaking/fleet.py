"""The processes under soak: a gateway with its local workers, and one worker that joins it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from random import Random

import psutil

from soaking.plan import SEATS, SPEED

MODEL = "m"
HARDWARE = "h100-llama-3.1-8b"
START_S = 120.0
"""Longest wait for a gateway that starts on a busy machine."""
STOP_S = 30.0
FLEET = """\
[gateway]
listen = "127.0.0.1:{port}"
workers_listen = "127.0.0.1:{workers_port}"
token_file = "{folder}/token"
event_log = "{folder}/events.log"
event_log_gib = 0.1

[tenants]
database = "{folder}/fairlead.db"
journal = "{folder}/calls"

[batches]
folder = "{folder}/files"

[objectives.interactive]
ttft_s = 10.0
tpot_s = 0.2

[objectives.batch]

[[pool]]
name = "chat"
model = "{model}"
engine = "emulated"
hardware = "{hardware}"
instances = {instances}
speed = {speed}
max_sequences = {seats}
n_blocks = 3000
"""


class StartError(Exception):
    """The fleet does not come up, with what it printed."""


class Fleet:
    """Everything lives in one folder, which survives all of its processes."""

    def __init__(self, folder: Path, instances: int) -> None:
        """One of the instances is a worker of our own, which outlives gateways."""
        self.folder = folder
        self.port, self._workers_port = _free_ports(2)
        self.url = f"http://127.0.0.1:{self.port}"
        self.instances = instances
        self.deaths: list[tuple[float, str]] = []
        """When (on the monotonic clock) a gateway or a worker was killed."""
        self.lives_s: list[float] = []
        """When each gateway was started."""
        self._gateway: subprocess.Popen[bytes] | None = None
        self._joined: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "token").write_text("of-this-soak\n")
        (folder / "fleet.toml").write_text(
            FLEET.format(
                port=self.port,
                workers_port=self._workers_port,
                folder=folder,
                model=MODEL,
                hardware=HARDWARE,
                instances=instances - 1,
                speed=SPEED,
                seats=SEATS,
            )
        )

    @property
    def database(self) -> Path:
        return self.folder / "fairlead.db"

    @property
    def gateway(self) -> psutil.Process | None:
        """The gateway that lives now."""
        child = self._gateway
        if child is None or child.poll() is not None:
            return None
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(child.pid)
        return None

    def processes(self) -> list[psutil.Process]:
        """All that live."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process().children(recursive=True)
        return []

    # ---------------------------------------------------------------- life and death

    async def start(self) -> None:
        """Returns when all instances are there."""
        self._start_gateway()
        self._start_joined()
        await self.until_whole()

    async def until_whole(self) -> None:
        deadline_s = time.monotonic() + START_S
        while await self.metric('fairlead_instances{state="up"}') != self.instances:
            if time.monotonic() > deadline_s:
                said = self.log.read_text(errors="replace")[-2000:]
                raise StartError(f"the fleet is not whole after {START_S:g} s:\n{said}")
            self.look_after_joined()
            await asyncio.sleep(0.2)

    @property
    def log(self) -> Path:
        return self.folder / "serve.log"

    def look_after_joined(self) -> None:
        """Starts our own worker again where it has died."""
        if self._joined is None or self._joined.poll() is not None:
            self._start_joined()

    async def kill_gateway(self, away_s: float) -> None:
        """-9, and a new one at the same ports and with the same files."""
        if self._gateway is None:
            return
        self._gateway.kill()
        self._gateway.wait()
        self.deaths.append((time.monotonic(), "gateway"))
        await asyncio.sleep(away_s)
        self._start_gateway()

    def kill_worker(self, rng: Random) -> None:
        """-9 to any of them."""
        workers = [p for p in self.processes() if _is_worker(p)]
        if workers:
            victim = rng.choice(sorted(workers, key=lambda process: process.pid))
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
                self.deaths.append((time.monotonic(), "worker"))
        self.look_after_joined()

    async def stop(self) -> int | None:
        """The gateway drains; its exit status. Nobody is left, however this ends."""
        gateway, joined = self._gateway, self._joined
        self._gateway = self._joined = None
        try:
            if gateway is None:
                return None
            if gateway.poll() is None:
                gateway.send_signal(signal.SIGTERM)
            return await asyncio.to_thread(gateway.wait, STOP_S)
        except subprocess.TimeoutExpired:
            return None
        finally:
            for child in (gateway, joined):
                if child is not None and child.poll() is None:
                    child.kill()
                    child.wait()

    def _start_gateway(self) -> None:
        self.lives_s.append(time.monotonic())
        self._gateway = self._spawn("serve", str(self.folder / "fleet.toml"))

    def _start_joined(self) -> None:
        self._joined = self._spawn(
            "worker",
            f"--join=127.0.0.1:{self._workers_port}",
            f"--model={MODEL}",
            "--pool=chat",
            "--engine=emulated",
            f"--hardware={HARDWARE}",
            f"--speed={SPEED}",
            f"--max-sequences={SEATS}",
            "--n-blocks=3000",
            "--name=joined",
        )

    def _spawn(self, *arguments: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "fairlead", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"FAIRLEAD_TOKEN": "of-this-soak"},
                start_new_session=True,  # A Ctrl-C is for us; we see to the rest.
            )

    # ---------------------------------------------------------------- what it says

    async def metric(self, name: str) -> float | None:
        """One of the gateway's metrics, by its name with labels; None where nobody answers."""
        try:
            text = await asyncio.to_thread(_get, self.url + "/metrics")
        except OSError:
            return None
        for line in text.splitlines():
            if line.startswith(name + " "):
                return float(line.rsplit(" ", 1)[1])
        return 0.0


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "worker" in process.cmdline()
    except psutil.Error:
        return False


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def _free_ports(n: int) -> list[int]:
    """Ports that stay ours while nobody listens there. Not among those that the kernel gives to
    connections: a client that tries one of those again and again ends up connected to itself."""
    found: list[int] = []
    ports = Random(os.getpid()).sample(range(10_000, 32_000), 1000)
    while len(found) < n:
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port := ports.pop()))
            found.append(port)
    return found
