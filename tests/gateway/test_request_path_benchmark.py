"""The benchmark of the request path runs, in its small size, so that it cannot rot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.patience import PATIENCE_S

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "request_path.py"


def run(*arguments):
    command = [sys.executable, str(BENCHMARK), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_the_benchmark_prints_what_a_request_costs():
    done = run("--rounds", "2", "--requests", "32", "--connections", "4", "--workers", "3")
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 workers, 4 connections, 2 rounds of 32 requests" in done.stdout
    assert float(done.stdout.rpartition("best ")[2].split()[0]) > 0


def test_no_requests_are_a_mistake_that_is_named():
    done = run("--requests", "0")
    assert done.returncode == 2
    assert "must be positive" in done.stderr
