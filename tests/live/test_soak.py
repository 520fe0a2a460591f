"""The soak in its small size, and that its judge notices what it is there to notice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from tests.patience import PATIENCE_S

ENDED_S = 1000.0
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def soaking(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import soaking.call
    import soaking.gauges
    import soaking.ledger
    import soaking.plan
    import soaking.verdict

    return soaking


def test_a_short_soak_loses_nothing_and_leaves_no_process(tmp_path: Path) -> None:
    out = tmp_path / "soak.json"
    command = [sys.executable, str(BENCHMARKS / "soak.py"), "--minutes=0.2", "--instances=2"]
    command += ["--load=0.4", "--lines=40", f"--keep={tmp_path / 'kept'}", f"--json={out}"]
    timeout_s = 2 * PATIENCE_S
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(out.read_text())
    assert told["killed"] == {"worker": 1, "gateway": 1}
    assert told["calls"]["finished"] > 0
    assert told["lines"] > 0
    assert all(row["holds"] for row in told["results"])
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(p.info)]


def test_one_seed_is_one_plan(soaking: Any) -> None:
    one, same, other = (soaking.plan.make_plan(n, 1800.0, 4, 0.8, 300) for n in (3, 3, 4))
    assert one == same != other
    kills = one.kills
    assert [kill.at_s for kill in kills] == sorted(kill.at_s for kill in kills)
    assert max(kill.at_s for kill in kills if kill.gateway) <= 900.0
    assert max(kill.at_s for kill in kills) > 1700.0


def call(soaking: Any, end: str, got: int, **changes: Any) -> Any:
    text = soaking.call.expected_text(7, 50)
    body = {"max_tokens": 50, "seed": 7, "stream": True}
    made = soaking.call.Call("ann", "k", 20, body, chat=False, **changes)
    made.end, made.texts = soaking.call.End[end], [text[:got]]
    return made


def row(soaking: Any, outcome: str, output: int, id: str = "a", prompt: int = 20) -> Any:
    return soaking.ledger.Row(id, "ann", "k", outcome, prompt, output, ENDED_S)


@pytest.mark.parametrize(
    ("end", "got", "outcome", "output", "holds"),
    [
        ("FINISHED", 50, "finished", 50, True),
        ("FINISHED", 50, "finished", 51, False),
        ("FINISHED", 50, None, 0, False),
        ("LEFT", 20, "cancelled", 20, True),
        ("LEFT", 20, "cancelled", 21, False),
        ("CUT", 20, "lost", 20, True),
        ("CUT", 20, "lost", 21, True),
        ("CUT", 20, "lost", 22, False),
        ("CUT", 20, "lost", 19, False),
        ("CUT", 20, None, 0, False),
        ("CUT", 0, None, 0, True),
        ("REJECTED", 0, None, 0, True),
        ("REJECTED", 0, "finished", 5, False),
        ("FAILED", 5, "failed", 5, True),
        ("FAILED", 5, "failed", 6, False),
    ],
)
def test_the_ledger_is_exact_but_for_a_token_that_was_being_written(
    soaking: Any, end: str, got: int, outcome: str | None, output: int, holds: bool
) -> None:
    made = call(soaking, end, got, says_so=True)
    rows = [] if outcome is None else [row(soaking, outcome, output)]
    problems = soaking.ledger.audit(rows, [made], "night", {}).problems
    assert (len(problems) == 0) is holds


@pytest.mark.parametrize(
    ("output", "outcome", "left_s", "holds"),
    [
        (20, "cancelled", 999.0, True),
        (50, "cancelled", 999.0, True),
        (50, "lost", 999.0, True),
        (19, "lost", 999.0, False),
        (19, "cancelled", 999.0, False),
        (51, "cancelled", 999.0, False),
        (30, "cancelled", 990.0, False),
    ],
)
def test_who_is_suddenly_gone_pays_for_what_was_on_the_way_and_is_noticed(
    soaking: Any, output: int, outcome: str, left_s: float, holds: bool
) -> None:
    made = call(soaking, "LEFT", 20, left_s=left_s)
    problems = soaking.ledger.audit([row(soaking, outcome, output)], [made], "n", {}).problems
    assert (len(problems) == 0) is holds


def test_what_nobody_asked_for_or_twice_is_noticed(soaking: Any) -> None:
    made = call(soaking, "FINISHED", 50)
    mine = row(soaking, "finished", 50)
    audit = soaking.ledger.audit
    assert not audit([mine], [made], "night", {}).problems
    assert audit([mine, mine], [made], "night", {}).problems
    assert audit([mine, row(soaking, "finished", 9, "b", 21)], [made], "night", {}).problems
    line = soaking.ledger.Row("batch-1", "night", "night", "finished", 9, 30, ENDED_S)
    assert not audit([line], [], "night", {"batch-1": 30}).problems
    for rows, lines in (([line], {"batch-1": 29}), ([], {"batch-1": 30}), ([line], {})):
        assert audit(rows, [], "night", lines).problems


def test_a_token_lost_repeated_or_another_is_noticed(soaking: Any) -> None:
    made = call(soaking, "FINISHED", 50)
    (text,) = made.texts
    assert made.problems() == []
    for wrong in (text[:49], text[:10] + text[11:], text[:10] + text[9:], text[:-1] + "#"):
        made.texts = [wrong]
        assert made.problems()


@pytest.mark.parametrize(
    ("watched_s", "more_files", "processes", "holds"),
    [
        (100, 0, 3, [True, True]),
        (100, 20, 3, [False, True]),
        (100, 0, 2, [True, False]),
        (100, 0, 6, [True, False]),
        (5, 20, 2, [True, True]),
        (5, 20, 6, [True, False]),
    ],
)
def test_files_that_leak_and_processes_that_are_missing_or_too_many_are_noticed(
    soaking: Any, watched_s: int, more_files: int, processes: int, holds: list[bool]
) -> None:
    plan = soaking.plan.make_plan(0, 1800.0, 2, 0.8, 300)
    gauges = soaking.gauges.Gauges(None, lambda: 0)
    for at_s in range(2 * watched_s):
        files = 30 + more_files * at_s // (2 * watched_s)
        gauges.samples.append(soaking.gauges.Sample(at_s, 1, 100.0, files + 9, processes, 9))
    rows = soaking.verdict._trends(SimpleNamespace(gauges=gauges, plan=plan))
    assert [found for name, _, found in rows if "memory" not in name] == holds
