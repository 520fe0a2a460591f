"""The comparison of scaling policies runs, in its small size, so that it cannot rot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.scaling import Meter, present

from fairlead.model import InstanceDown, InstanceId, InstanceUp
from tests.patience import PATIENCE_S
from tests.strategies import spec

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "scaling.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--quick", "--jobs", "1", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


@pytest.mark.skipif(not present(), reason="servegen_m_large_days is not in ../shared/traces")
def test_the_benchmark_prints_and_writes_what_each_policy_keeps_and_costs(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    more = ["--policies", "queue-based,queue-based:target=4", "--start-up", "30"]
    done = run("--window", "54720:55300", "--fixed", "2", *more, "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "fixed at 2" in done.stdout
    fixed, default, eager = json.loads(out.read_text())
    assert fixed["instance_hours"] == pytest.approx(2 * 580 / 3600, rel=0.05)
    assert eager["policy"] == "queue-based:target=4"
    assert eager["instance_hours"] > default["instance_hours"]


def test_an_instance_is_paid_for_from_when_it_was_asked_for_until_it_is_gone() -> None:
    meter = Meter(30.0)
    for name, up_s in (("a", 0.0), ("b", 100.0), ("c", 150.0)):
        meter(InstanceUp(spec(name)), (), up_s)
    meter(InstanceDown(InstanceId("b"), "stopped"), (), 180.0)
    assert meter.instance_s(200.0) == 200.0 + 110.0 + 80.0
    assert meter.peak(200.0) == 3
    assert meter.instance_s(110.0) == 110.0 + 40.0
    assert meter.peak(110.0) == 2
