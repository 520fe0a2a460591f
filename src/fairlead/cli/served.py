"""A fleet for the time of a measurement: `fairlead serve` as a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fairlead.cli.fleet_file import read_fleet_file
from fairlead.model import ConfigError

START_S = 120.0
STOP_S = 20.0


@contextmanager
def served(fleet: Path, changes: Sequence[str] = ()) -> Iterator[str]:
    """Its address, when every instance has reported; it is stopped at the end of the context.
    `changes` are as for `--set`. Raises `ConfigError`."""
    config, _ = read_fleet_file(fleet, changes)
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "fairlead", "serve", str(fleet), "--quiet"]
    for change in (*changes, f'gateway.listen="{address}"'):
        command += ["--set", change]
    # A Ctrl-C is for whoever measures; the fleet hears of it in its turn. Engines share the
    # machine with a client: OpenMP must not spin while it waits.
    environment = {"OMP_WAIT_POLICY": "passive", **os.environ}
    process = subprocess.Popen(command, start_new_session=True, env=environment)
    try:
        _wait_until_ready(process, address, sum(pool.instances for pool in config.pools))
        yield f"http://{address}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            process.wait()


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(process: subprocess.Popen[bytes], address: str, n: int) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ConfigError("the fleet did not start; why is said above")
        if _reported(address) >= n:
            return
        time.sleep(0.1)
    raise ConfigError(f"the fleet was not ready after {START_S:.0f} s")


def _reported(address: str) -> int:
    """Instances whose load is known."""
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
            page: str = answer.read().decode()
    except OSError:
        return 0
    return page.count("\nfairlead_instance_running{")
