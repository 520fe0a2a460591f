"""The benchmark runs, at a size of seconds, and writes what it measured."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs fairlead[engine]: torch and transformers")

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "engine.py"


def test_the_small_size_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = runpy.run_path(str(SCRIPT))["main"]
    assert main(["--small", "--json", str(tmp_path / "out.json")]) == 0
    figures = json.loads((tmp_path / "out.json").read_text())
    assert len(figures["records"]) == 2 * 3
    for record in figures["records"]:
        assert record["equal_to_generate"], record
    table = capsys.readouterr().out
    assert "generate_batch" in table
    assert "threads: 1" in table
