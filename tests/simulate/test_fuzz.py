"""Seeds hold; and where there is a bug, seeds find it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import plant_bugs

from fairlead.cli.fuzz import main
from fairlead.fleet import Fleet
from fairlead.fleet.held_prefixes import HeldPrefixes
from fairlead.simulate.fuzz import attempt, explain, fuzz
from fairlead.simulate.scenario import draw
from fairlead.simulate.shrink import shrink

SEEDS = Path(__file__).parents[1] / "seeds"


def kept() -> list[int]:
    lines = [line for file in sorted(SEEDS.glob("*.txt")) for line in file.open()]
    return [int(line.split()[0]) for line in lines if line[:1].isdigit()]


@pytest.mark.parametrize("seed", kept())
def test_what_a_seed_once_found_does_not_come_back(seed: int) -> None:
    assert attempt(draw(seed), every=1) is None


@pytest.mark.parametrize("first", range(100, 140, 10))
def test_fresh_seeds_hold(first: int) -> None:
    assert fuzz(range(first, first + 10)) == []


def test_a_seed_draws_the_same_world_again_and_another_draws_another() -> None:
    assert draw(3) == draw(3)
    assert draw(3) != draw(4)
    assert len({draw(seed).fleet["policy"]["batching"] for seed in range(60)}) > 4
    assert {kind for seed in range(60) for kind in draw(seed).faults} >= {"death", "partition"}


def test_the_digest_is_the_same_in_processes_with_different_hash_seeds() -> None:
    command = [sys.executable, "-m", "fairlead.cli.fuzz", "--seed", "40", "--n", "12", "--digest"]
    first, second = (
        subprocess.run(
            command,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    )
    assert len(first.splitlines()) == 12
    assert first == second


@pytest.fixture
def _lost_dispatches_stay_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fleet, "_settle", lambda self, shadow, report, inside, now: [])


@pytest.mark.usefixtures("_lost_dispatches_stay_lost")
def test_a_bug_is_found_made_small_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    """scripts/plant_bugs.py plants more of them."""
    (failure, *_) = fuzz(range(8, 12))
    scenario = draw(failure.seed)
    small = shrink(scenario, lambda candidate: attempt(candidate) is not None, plays=60)
    assert attempt(small) is not None
    assert small.n_requests < scenario.n_requests
    assert sum(map(len, small.faults.values())) <= sum(map(len, scenario.faults.values()))
    assert "faults within" in explain(small)
    assert main(["--seed", str(failure.seed), "--n", "1", "--jobs", "1"]) == 1
    told = capsys.readouterr().out
    assert f"again: make fuzz SEED={failure.seed}" in told
    assert "1 seeds from" in told


@pytest.mark.parametrize("plant", plant_bugs.PLANTS, ids=lambda plant: plant.name)
def test_each_bug_of_the_list_can_be_planted(plant: plant_bugs.Plant) -> None:
    text = (plant_bugs.SOURCE / "fairlead" / plant.file).read_text()
    assert text.count(plant.old) == 1


def test_a_cache_event_that_stays_lost_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HeldPrefixes, "must_ask", lambda self, now: False)
    failures = fuzz(range(80, 100))
    assert any(failure.what.startswith("11:") for failure in failures)


def test_the_command_says_that_everything_held(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--n", "3", "--jobs", "1"]) == 0
    assert "3 seeds from 0 on: 0 broke an invariant" in capsys.readouterr().out
    assert main(["--seed", "2"]) == 0
    assert "seed 2 holds" in capsys.readouterr().out
