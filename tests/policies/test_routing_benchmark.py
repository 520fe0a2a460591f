"""The comparison of all routing policies runs, in its small size, so that it cannot rot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S

ROOT = Path(__file__).parents[2]
TRACES = ROOT.parent / "shared" / "traces"


def run(tmp_path: Path, *more: str) -> tuple[str, list[dict[str, object]]]:
    """What it prints, and its figures."""
    out = tmp_path / "figures.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "routing.py"), "--quick", "--jobs", "1"]
    arguments = ["--instances", "8", "--requests", "30", "--loads", "100", "--out", str(out)]
    done = subprocess.run(
        [*command, *arguments, *more],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(out.read_text())


@pytest.mark.parametrize("trace", ["azure2023_conv", "rtp_online"])
def test_the_benchmark_compares_the_default_with_the_best_other(tmp_path: Path, trace: str) -> None:
    if not (TRACES / f"{trace}.parquet").exists():
        pytest.skip(f"{trace} is not in ../shared/traces")
    printed, [result] = run(tmp_path, "--traces", trace, "--policies", "round-robin,dualmap")
    assert "prefix-load / best other" in printed
    assert "dualmap: ttft_s=5.0" in printed
    goodput = result["goodput_rps"]
    assert isinstance(goodput, dict)
    assert set(goodput) == {"round-robin", "dualmap", "prefix-load"}
    assert all(value > 0 for (value,) in goodput.values())


def test_the_benchmark_without_traces_says_so(tmp_path: Path) -> None:
    printed, results = run(tmp_path, "--traces", "no_such_trace")
    assert "no_such_trace" in printed
    assert results == []
