"""One simulation as the planner runs it."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from fairlead.planner.cell import run_cell
from fairlead.planner.load import SAMPLES, load_series
from fairlead.planner.source import TraceSource
from fairlead.simulate.timeline import Timeline, Track
from fairlead.workload.shape import Shape
from tests.planner.fleets import cell, config
from tests.workload.test_sessions import SESSIONS


def test_a_cell_travels_to_other_processes() -> None:
    one = cell()
    there = pickle.loads(pickle.dumps(one))
    assert run_cell(there).to_json()["digest"] == run_cell(one).to_json()["digest"]


def test_the_summary_carries_what_plots_need() -> None:
    summary = run_cell(cell()).to_json()
    assert summary["requests"]["finished"] == 40
    assert summary["fleet"] == "two"
    load = summary["curves"]["load"]
    assert list(load) == ["h100-0", "h100-1"]
    assert len({len(series) for series in load["h100-0"].values()}) == 1
    assert max(load["h100-0"]["running"]) > 0
    assert "curves" not in run_cell(cell(detailed=False)).to_json()


def test_it_tells_at_which_rate_requests_came() -> None:
    summary = run_cell(cell(rate_rps=25.0)).to_json()
    assert abs(summary["simulation"]["offered_rps"] - 25.0) < 1e-6


def test_the_later_calls_of_a_session_are_played_as_well(tmp_path: Path) -> None:
    path = tmp_path / "sessions.csv"
    path.write_text(SESSIONS)
    whole = cell(rate_rps=1.0, limit=6, trace=TraceSource(str(path)))
    summary = run_cell(whole).to_json()
    assert summary["requests"]["finished"] == 6
    assert summary["programs"]["total"] == 3


def test_goodput_is_counted_until_the_last_session_has_begun(tmp_path: Path) -> None:
    path = tmp_path / "sessions.csv"
    path.write_text(SESSIONS)
    shape = Shape(process="constant", rate_rps=1.0, limit=6)
    simulation = run_cell(cell(trace=TraceSource(str(path)), shape=shape)).to_json()["simulation"]
    # The three first calls, a second apart; the others come later, after their gaps.
    assert simulation["goodput_rps"] == pytest.approx(2 / 2.0)
    assert simulation["offered_rps"] < simulation["goodput_rps"]
    alone = run_cell(cell(rate_rps=25.0)).to_json()
    assert alone["simulation"]["goodput_rps"] == pytest.approx(25.0 * alone["attainment"])


def test_once_asked_to_stop_nothing_more_arrives_and_the_summary_says_so() -> None:
    asked = iter([False] * 10 + [True] * 50)
    summary = run_cell(cell(), stop=lambda: next(asked)).to_json()
    assert summary["requests"]["total"] == summary["requests"]["finished"] == 10
    assert summary["interrupted"] is True


def test_what_did_not_finish_has_its_reason_counted() -> None:
    """Prompts of hundreds of tokens, and an instance that can hold 64."""
    pool = {"name": "p", "engine": "emulated", "hardware": "h100-llama-3.1-8b", "n_blocks": 4}
    summary = run_cell(cell(config=config(pool=[pool]))).to_json()
    n_lost = summary["requests"]["total"] - summary["requests"]["finished"]
    assert n_lost > 0
    assert sum(summary["simulation"]["reasons"].values()) == n_lost


def test_a_long_load_is_thinned_by_means() -> None:
    n = 2 * SAMPLES
    track = Track(
        time_s=[float(i) for i in range(n)],
        running=[i % 2 for i in range(n)],
        waiting=[0] * n,
        used_blocks=[0.5] * n,
        busy=[1.0] * n,
    )
    series = load_series(Timeline({"a": track}))["a"]
    assert len(series["t_s"]) == SAMPLES
    assert set(series["running"]) == {0.5}
