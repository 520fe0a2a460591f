"""Routing policies come out live in the order in which they are simulated: `benchmarks/
live_routing.py` in its small size, with four embedded engines in processes of their own.

Compared is what was found in prefix caches, which a busy machine hardly changes; `round-robin`
finds far less than the other two. `dualmap` and the default are within a few per cent of each
other on such a workload, simulated and live: they share a place.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S

pytest.importorskip("torch", reason="needs fairlead[engine]: torch and transformers")

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "live_routing.py"


def test_live_and_simulated_the_same_policies_find_the_most_in_caches(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    command = [sys.executable, str(SCRIPT), "--quick", "--requests", "100", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert found["places"]["live"] == {"round-robin": 3, "dualmap": 1, "prefix-load": 1}
    assert found["places"]["simulated"] == found["places"]["live"]
    for policy, live in found["live"].items():
        simulated = found["simulated"][policy]
        assert live["finished"] == simulated["finished"] == 100
        assert live["hit_ratio"] == pytest.approx(simulated["hit_ratio"], abs=0.1)
