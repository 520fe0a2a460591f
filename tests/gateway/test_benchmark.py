"""The gateway's benchmark runs, in its small size, so that it cannot rot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.patience import PATIENCE_S

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "gateway.py"


def test_the_benchmark_measures_all_its_figures(tmp_path):
    out = tmp_path / "figures.json"
    command = [sys.executable, str(BENCHMARK), "--small", "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert "CPU per streamed token" in done.stdout
    figures = json.loads(out.read_text())
    assert figures["streams"]["us_per_token"] > 0
    assert figures["requests"]["us_per_request"] > figures["floor"]["us_per_request"]
    for name in ("ttft_alone", "ttft_busy"):
        assert figures[name]["gateway_us"] > 0
        assert figures[name]["direct_us"] > 0
