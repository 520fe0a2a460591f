"""The comparison of a flood with and without fair sharing runs, in its small size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.patience import PATIENCE_S

ROOT = Path(__file__).parents[2]


def test_a_flood_is_borne_by_who_makes_it(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "tenants.py"), "--quick", "--jobs", "1"]
    arguments = ["--duration", "6", "--flood", "10", "--admission", "predicted", "--out", str(out)]
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = {
        (one["tenants"], one["flood"], one["fairness"]): one for one in json.loads(out.read_text())
    }
    alone, flood = figures["ann", 1.0, "none"], figures["all", 10.0, "vtc"]
    assert alone["attainment"]["ann"] - flood["attainment"]["ann"] <= 0.02
    assert flood["goodput_rps"] >= figures["all", 1.0, "vtc"]["goodput_rps"]
    assert "together, flood 10x, vtc" in done.stdout
