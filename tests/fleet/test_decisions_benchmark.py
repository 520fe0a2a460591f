"""The benchmark of decisions runs, in its small size, so that it cannot rot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.patience import PATIENCE_S

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "decisions.py"


def test_the_benchmark_prints_what_a_decision_costs() -> None:
    policies = "dualmap,prefix-load"
    command = [sys.executable, str(BENCHMARK), "--quick", "--policies", policies]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode in (0, 1), done.stderr  # 1: so small a run on a busy machine missed it.
    assert "20 instances hold 20,480 blocks" in done.stdout
    assert all(policy in done.stdout for policy in policies.split(","))
