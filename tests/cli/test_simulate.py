"""`fairlead simulate` and `fairlead story`, as a user types them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fairlead.cli.main import main
from tests.cli.conftest import TRACE
from tests.patience import PATIENCE_S


def simulated(fleet: str, tmp_path: Path, *more: str) -> tuple[int, dict[str, Any]]:
    out = tmp_path / "s.json"
    limit = () if "--limit" in more else ("--limit", "30")
    status = main(
        ["simulate", TRACE, "--fleet", fleet, "--rate", "20", *limit, "--out", str(out), *more]
    )
    return status, json.loads(out.read_text()) if out.exists() else {}


def test_a_summary_is_printed_and_written(
    fleet: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, summary = simulated(fleet, tmp_path)
    assert status == 0
    assert summary["requests"]["finished"] == 30
    assert summary["fleet"] == "two"
    assert summary["policy"]["routing"] == "round-robin"
    text = capsys.readouterr().out
    assert "objective met" in text
    assert max(map(len, text.splitlines())) <= 80


def test_equal_seeds_are_equal_runs_and_a_change_is_another(fleet: str, tmp_path: Path) -> None:
    digests = [
        simulated(fleet, tmp_path, "--quiet", *more)[1]["digest"]
        for more in ((), (), ("--seed", "1"), ("--set", "policy.routing=least-load"))
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_a_page_shows_runs_beside_each_other(fleet: str, tmp_path: Path) -> None:
    simulated(fleet, tmp_path, "--label", "first")
    (tmp_path / "s.json").rename(tmp_path / "first.json")
    page = tmp_path / "page.html"
    beside = ("--beside", str(tmp_path / "first.json"), "--label", "second", "--html", str(page))
    assert simulated(fleet, tmp_path, *beside)[0] == 0
    text = page.read_text()
    assert "<h1>Simulation: azure-conv-slice</h1>" in text
    assert "first</th>" in text
    assert "second</th>" in text
    assert text.count("<svg") == 5  # the load of each instance is known


def test_several_seeds_give_intervals(fleet: str, tmp_path: Path, capsys: Any) -> None:
    status, summary = simulated(fleet, tmp_path, "--seeds", "3", "--jobs", "1")
    assert status == 0
    assert summary["seed"] == 0
    found = summary["over_seeds"]
    assert found["seeds"] == [0, 1, 2]
    assert found["ttft_s_p50"]["half_width"] > 0
    assert "over 3 seeds" in capsys.readouterr().out


def test_a_story_follows_from_the_log(
    fleet: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = str(tmp_path / "run.log")
    assert simulated(fleet, tmp_path, "--log", log)[0] == 0
    capsys.readouterr()
    assert main(["story", log, "r17"]) == 0
    story = capsys.readouterr().out
    assert "sent to h100-1" in story
    assert "finished" in story
    assert "objective" in story
    assert main(["story", log, "h100-0"]) == 0
    assert "in all: 15 came, 15 ended" in capsys.readouterr().out
    assert main(["story", log, "r17", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["what"] for line in lines] == ["arrived", "dispatch", "first-token", "complete"]
    for id, near in (("R17", "r17"), ("h10-0", "h100-0")):
        assert main(["story", log, id]) == 2
        assert near in capsys.readouterr().err
    assert main(["story", str(tmp_path / "none"), "r1"]) == 2
    assert main(["story", fleet, "r1"]) == 2
    assert "is no event log" in capsys.readouterr().err


@pytest.mark.parametrize("id", ["cmpl-r1af01", "chatcmpl-r1af01", "r1af01.0"])
def test_a_story_is_found_by_the_id_of_the_answer(
    id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The gateway names a request after the answer, and numbers its choices."""
    log = tmp_path / "live.log"
    lines = (
        {"what": "log", "format": 1},
        {
            "t": 1.0,
            "what": "arrived",
            "request": "r1af01.0",
            "arrival_s": 1.0,
            "prompt_tokens": 5,
            "max_tokens": 9,
            "objective": {"name": "batch"},
        },
        {"t": 1.1, "what": "reject", "request": "r1af01.0", "why": "draining"},
    )
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["story", str(log), id]) == 0
    assert "r1af01.0" in capsys.readouterr().out


def test_a_log_changes_nothing(fleet: str, tmp_path: Path) -> None:
    _, without = simulated(fleet, tmp_path, "--quiet")
    _, logged = simulated(fleet, tmp_path, "--quiet", "--log", str(tmp_path / "run.log"))
    assert logged["digest"] == without["digest"]


def test_nothing_finished_is_not_what_was_asked(
    fleet: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, summary = simulated(fleet, tmp_path, "--set", "pool.0.n_blocks=1")
    assert status == 1
    assert summary["requests"]["finished"] == 0
    assert "note: 30 ×" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "policy.routing=least-loud"), "did you mean 'least-load'"),
        (("--window", "9"), "--window"),
        (("--limit", "0"), "--limit"),
        (("--seeds", "0"), "--seeds must be at least 1"),
        (("--warmup", "-1"), "--warmup"),
        (("--html", "/nowhere/page.html"), "there is no folder /nowhere"),
        (("--log", "/nowhere/run.log"), "cannot write /nowhere/run.log"),
        (("--log", "x", "--seeds", "2"), "--log tells of one run"),
        (("--beside", "/nowhere/s.json"), "cannot read /nowhere/s.json"),
    ],
)
def test_mistakes_get_a_message_and_leave_nothing(
    fleet: str,
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert simulated(fleet, tmp_path, *arguments)[0] == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["two.toml"]


def test_a_trace_without_times_asks_for_a_rate(
    fleet: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "lengths.csv"
    trace.write_text("prompt_tokens,output_tokens\n100,10\n200,20\n")
    assert main(["simulate", str(trace), "--fleet", fleet]) == 2
    assert "--rate R" in capsys.readouterr().err
    assert main(["simulate", str(trace), "--fleet", fleet, "--rate", "1", "--quiet"]) == 0


def test_ctrl_c_sums_up_what_had_arrived(fleet: str, tmp_path: Path) -> None:
    """The log grows while requests arrive; then the signal comes."""
    trace, log, out = tmp_path / "long.csv", tmp_path / "run.log", tmp_path / "s.json"
    rows = "".join(f"{i},100,50\n" for i in range(60_000))
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n" + rows)
    command = (
        *(sys.executable, "-m", "fairlead", "simulate", str(trace), "--fleet", fleet),
        *("--rate", "10", "--log", str(log), "--out", str(out)),
    )
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while run.poll() is None and not (log.exists() and log.stat().st_size > 1 << 16):
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGINT)
    printed, complaints = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 1
    assert "nothing more arrives" in complaints
    assert "Traceback" not in complaints
    assert "note: interrupted" in printed
    summary = json.loads(out.read_text())
    assert 0 < summary["requests"]["total"] == summary["requests"]["finished"] < 60_000
