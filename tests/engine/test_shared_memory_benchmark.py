"""The benchmark runs, at a size of seconds: KV goes both ways between two real processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fairlead.worker import shared
from tests.patience import PATIENCE_S

pytest.importorskip("torch", reason="needs fairlead[engine]: torch and transformers")

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "shared_memory.py"


@pytest.mark.skipif(not shared.LINUX, reason="no such memory but on Linux")
def test_the_small_size_runs() -> None:
    command = [sys.executable, str(SCRIPT), "--mib", "1", "--repeats", "1"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert told.returncode == 0, told.stderr
    assert "TCP" in told.stdout
    assert "memory" in told.stdout
