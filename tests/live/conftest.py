"""Whole fleets of real processes, started as a user starts them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.patience import PATIENCE_S
from tests.processes import command_line


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LiveFleet:
    """A `fairlead serve` in a process of its own."""

    def __init__(
        self,
        path: Path,
        port: int,
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = path.with_suffix(".log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [python, "-m", "fairlead", "serve", str(path)],
                stderr=log,
                stdout=log,
                env=environment,
            )

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=PATIENCE_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"content-type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = self.get("/metrics")[1].splitlines()
        found = [line for line in lines if line.startswith((name + " ", name + "{"))]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)

    def wait_until(self, true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"serve ended: {self.log.read_text()}"
            try:
                if true():
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"never happened: {what}\n{self.log.read_text()}")

    def wait_for_instances(self, n: int) -> None:
        self.wait_until(
            lambda: (
                self.get("/ready")[0] == 200 and len(self.workers()) >= n and self.reporting() >= n
            ),
            f"{n} instances up",
        )

    def reporting(self) -> int:
        """Instances that the gateway has heard a report of."""
        return len(self.by_instance("fairlead_instance_running"))

    def workers(self) -> list[psutil.Process]:
        return [
            child
            for child in psutil.Process(self.process.pid).children()
            if "worker" in command_line(child)
        ]

    def kill_a_worker(self) -> None:
        """With -9, the one that runs most: the death of an idle one would prove nothing."""
        running = self.by_instance("fairlead_instance_running")
        busiest = max(self.workers(), key=lambda worker: running.get(self._name(worker), 0))
        os.kill(busiest.pid, signal.SIGKILL)

    def by_instance(self, name: str) -> dict[str, float]:
        found = re.findall(rf'^{name}\{{instance="(.+)"\}} (.+)$', self.get("/metrics")[1], re.M)
        return {instance: float(value) for instance, value in found}

    @staticmethod
    def _name(worker: psutil.Process) -> str:
        names = [one for one in command_line(worker) if one.startswith("--name=")]
        return names[0].removeprefix("--name=") if names else ""

    def stop(self) -> None:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                self.process.send_signal(number)
                try:
                    self.process.wait(timeout=5)
                except subprocess.TimeoutExpired:
                    continue


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[str], LiveFleet]]:
    """Starts fleets from the text of a fleet file, whose port is filled in."""
    fleets: list[LiveFleet] = []

    def start(text: str) -> LiveFleet:
        port = free_port()
        path = tmp_path / f"fleet{len(fleets)}.toml"
        path.write_text(f'[gateway]\nlisten = "127.0.0.1:{port}"\ndebug_invariants = true\n{text}')
        fleets.append(LiveFleet(path, port))
        return fleets[-1]

    yield start
    for fleet in fleets:
        fleet.stop()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model with random weights, as vLLM reads it."""
    from scripts.make_tiny_model import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
