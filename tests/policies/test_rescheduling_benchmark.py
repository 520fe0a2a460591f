"""The comparison of rescheduling policies runs, in its small size, so that it cannot rot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.patience import PATIENCE_S

ROOT = Path(__file__).parents[2]


def run(tmp_path: Path, *more: str) -> tuple[str, list[dict[str, Any]]]:
    """What it prints, and its figures."""
    out = tmp_path / "figures.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "rescheduling.py"), "--quick"]
    arguments = ["--requests", "60", "--jobs", "1", "--out", str(out), *more]
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(out.read_text())


def test_every_policy_is_played_on_every_case(tmp_path: Path) -> None:
    printed, results = run(tmp_path, "--cases", "power-law,mixed")
    assert "mixed at 110%" in printed
    assert [result["case"] for result in results] == ["power-law", "mixed"]
    for result in results:
        assert next(iter(result["policies"])) == "none"
        assert "predicted-gain" in result["policies"]
        assert result["policies"]["none"]["moves"] == 0
        assert all(one["goodput_rps"] > 0 for one in result["policies"].values())


def test_a_case_that_is_not_there_is_left_out(tmp_path: Path) -> None:
    printed, results = run(tmp_path, "--cases", "no_such_trace")
    assert "no_such_trace: left out" in printed
    assert results == []
