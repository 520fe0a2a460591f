"""`fairlead simulate --from-log`: a log is played again, and set beside what it tells."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from fairlead.cli.log_window import log_window, parse_duration
from fairlead.cli.main import main
from fairlead.model import ConfigError
from fairlead.observe.log_file import LogFile
from fairlead.observe.log_trace import LogTrace

FLEET = """\
[[pool]]
name = "h100"
model = "llama-3.1-8b"
engine = "emulated"
hardware = "h100-llama-3.1-8b"
instances = 2

[objectives.interactive]
ttft_s = 1.0
tpot_s = 0.05
[objectives.batch]

[workload]
default = "batch"
mix = { interactive = 0.7 }
"""
N = 60


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """A fleet file, the log of a run on it, and the Summary of that run."""
    folder = tmp_path_factory.mktemp("log")
    fleet, log, out = folder / "fleet.toml", folder / "events.log", folder / "out.json"
    fleet.write_text(FLEET)
    words = [
        "simulate",
        "azure-conv-slice",
        "--fleet",
        str(fleet),
        "--limit",
        str(N),
        "--rate",
        "8",
    ]
    assert main([*words, "--log", str(log), "--out", str(out), "--quiet"]) == 0
    return fleet, log, json.loads(out.read_text())


def simulated(fleet: Path, log: Path, tmp_path: Path, *words: str) -> dict[str, Any]:
    out = tmp_path / "replayed.json"
    found = ["simulate", "--from-log", str(log), "--fleet", str(fleet), "--out", str(out)]
    assert main([*found, "--quiet", *words]) == 0
    summary: dict[str, Any] = json.loads(out.read_text())
    return summary


def test_the_same_fleet_does_the_same_again_to_the_last_action(
    logged: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    fleet, log, before = logged
    again = simulated(fleet, log, tmp_path)
    for key in ("requests", "classes", "ttft_s", "tpot_s", "digest"):
        assert again[key] == before[key], key
    # Objectives are those of the log, whatever the seed would draw.
    other = simulated(fleet, log, tmp_path, "--seed", "5")["classes"]
    assert [(name, of["total"]) for name, of in other.items()] == [
        (name, of["total"]) for name, of in before["classes"].items()
    ]
    assert len(other) == 2


def test_another_policy_and_fewer_instances_do_otherwise(
    logged: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    fleet, log, before = logged
    words = ("--set", "policy.routing=dualmap", "--set", "pool.0.instances=1")
    other = simulated(fleet, log, tmp_path, *words)
    assert other["requests"]["total"] == N
    assert other["instances"]["n_max"] == 1
    assert other["ttft_s"]["p90"] > before["ttft_s"]["p90"]


def test_what_was_stands_beside_what_would_have_been(
    logged: tuple[Path, Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    fleet, log, _ = logged
    assert main(["simulate", "--from-log", str(log), "--fleet", str(fleet), "--last", "3s"]) == 0
    shown = capsys.readouterr().out
    heads = next(line for line in shown.splitlines() if "as it was" in line)
    assert heads.split() == ["as", "it", "was", "simulated"]
    total = next(line for line in shown.splitlines() if line.split()[:1] == ["requests"])
    was, would = (int(word) for word in total.split()[1:])
    assert 0 < was == would < N


def test_a_log_is_a_trace_for_the_other_commands_too(
    logged: tuple[Path, Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet, log, _ = logged
    words = ["compare", str(log), "--fleet", str(fleet), "--out", str(tmp_path / "grid")]
    vary = ["--vary", "policy.routing=round-robin,dualmap", "--jobs", "1", "--quiet"]
    assert main([*words, *vary]) == 0
    assert main(["workload", "describe", str(log)]) == 0
    assert "log layout" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--last", "1m"], "are for event logs"),
        (["--from-log", "{log}", "--last", "soon"], "is no duration"),
        (["--from-log", "{log}", "--since", "2026-01-01"], "knows no dates"),
        (["--from-log", "{log}", "--last", "1s", "--window", "0:1"], "say the same"),
        (["--from-log", "{fleet}"], "is no event log"),
    ],
)
def test_what_cannot_be_played_is_told(
    logged: tuple[Path, Path, dict[str, Any]],
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fleet, log, _ = logged
    given = [word.format(log=log, fleet=fleet) for word in words]
    trace = [] if "--from-log" in given else ["azure-conv-slice"]
    assert main(["simulate", *trace, *given, "--fleet", str(fleet)]) == 2
    assert said in capsys.readouterr().err


def gateway_log(path: Path) -> LogTrace:
    """Two requests, at noon and at half past."""
    file = LogFile(path, {"clock_s": 50.0, "wall_time_s": 1_800_000_000.0}, print)
    for i, t in enumerate((60.0, 60.0 + 1800)):
        objective = {"name": "batch"}
        asked = {"arrival_s": t, "prompt_tokens": 1, "max_tokens": 1, "objective": objective}
        file.write({"t": t, "what": "arrived", "request": f"r{i}", **asked})
    file.close()
    return LogTrace(path)


def arguments(**given: str) -> Namespace:
    return Namespace(**{"since": None, "until": None, "last": None, **given})


def test_windows_are_told_by_the_clock_on_the_wall(tmp_path: Path) -> None:
    trace = gateway_log(tmp_path / "log")
    assert trace.begun_s == 1_800_000_010.0
    assert log_window(trace, arguments()) is None
    since, until = "2027-01-15T08:05:00Z", "2027-01-15T08:10:00+00:00"
    assert log_window(trace, arguments(since=since, until=until)) == (290.0, 590.0)
    assert log_window(trace, arguments(last="15m")) == (900.0, float("inf"))
    assert log_window(trace, arguments(last="1m", until=until)) == (530.0, 590.0)
    for wrong in ({"since": until, "until": since}, {"since": since, "last": "1m"}, {"until": "x"}):
        with pytest.raises(ConfigError):
            log_window(trace, arguments(**wrong))


def test_durations_have_units() -> None:
    assert [parse_duration(text) for text in ("90s", "1.5m", "2h", "1d")] == [90, 90, 7200, 86400]
