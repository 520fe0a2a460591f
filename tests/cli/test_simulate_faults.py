"""`fairlead simulate --faults`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fairlead.cli.main import main

EXAMPLES = Path(__file__).parents[2] / "examples"
SIMULATE = ["simulate", "azure-conv-slice", "--fleet", str(EXAMPLES / "eight-h100.toml")]


def test_a_trace_is_played_while_things_go_wrong(tmp_path: Path) -> None:
    out = tmp_path / "s.json"
    faults = ["--faults", str(EXAMPLES / "faults.toml")]
    assert main([*SIMULATE, "--limit", "200", "--rate", "150", *faults, "--out", str(out)]) == 0
    requests = json.loads(out.read_text())["requests"]
    assert requests["resumed"] > 0
    assert requests["finished"] + requests["cancelled"] == requests["total"] == 200


def test_a_mistake_in_the_faults_is_told_and_nothing_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = tmp_path / "faults.toml"
    faults.write_text("[[death]]\nat_s = 1.0\ninstance = 'h100-8'\n")
    assert main([*SIMULATE, "--faults", str(faults)]) == 2
    assert "no instance 'h100-8'; did you mean 'h100-" in capsys.readouterr().err
    assert main([*SIMULATE, "--faults", str(tmp_path / "nowhere.toml")]) == 2
