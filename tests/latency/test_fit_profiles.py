"""The script behind the shipped profiles: what it reads, plays, and says when nothing is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def perf_data(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import perf_data

    return perf_data


def test_without_data_it_says_where_to_point(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "fit_profiles.py"), "--perf", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Point --perf at the folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_settled_run_keeps_every_slot_busy(perf_data: ModuleType) -> None:
    """Four slots with prompts of 100 and outputs of 50 tokens: in the long run two prompt tokens
    a decoded token, and at most four sequences at a time."""
    run = perf_data.EngineRun(4, 100, 50, 0.01)
    steps = perf_data.play_run(run)
    assert max(step.decodes for step in steps) == 4
    assert all(step.prefill_tokens <= 8192 for step in steps)
    decoded = sum(step.decodes for step in steps)
    prefilled = sum(step.prefill_tokens for step in steps)
    assert prefilled / decoded == pytest.approx(100 / 49, rel=0.1)


def test_a_long_prompt_is_played_in_chunks(perf_data: ModuleType) -> None:
    """A chunk never takes the step over its budget, and the next goes on where it ended."""
    run = perf_data.EngineRun(2, 1000, 20, 0.01)
    steps = perf_data.play_run(run, budget_tokens=300)
    assert all(step.decodes + step.prefill_tokens <= 300 for step in steps)
    assert max(step.prefill_tokens for step in steps) >= 299
    # The last chunks reach the end of the prompt: that sequence then samples.
    assert any(step.prefill_tokens and step.sampled > step.decodes for step in steps)
