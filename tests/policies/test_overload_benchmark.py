"""Goodput beyond capacity: the comparison runs, in its small size, and admission keeps it up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.patience import PATIENCE_S

ROOT = Path(__file__).parents[2]


def test_goodput_stays_under_overload_and_falls_where_everything_is_taken(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "overload.py"), "--quick", "--jobs", "1"]
    arguments = ["--instances", "1", "--capacity", "30", "--times", "1,3", "--out", str(out)]
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = {(one["variant"], one["times"]): one for one in json.loads(out.read_text())}
    assert figures["always", 3.0]["goodput_rps"] < 0.5 * figures["default", 3.0]["goodput_rps"]
