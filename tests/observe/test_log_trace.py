"""An event log as a trace, and what came of its requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fairlead.model import BlockHash, ConfigError, Objective, ProgramId
from fairlead.observe.log import EventLog
from fairlead.observe.log_blocks import PrefixNumbers
from fairlead.observe.log_file import PARTS, LogFile, older, parts
from fairlead.observe.log_summary import log_summary
from fairlead.observe.log_trace import NO_LENGTH, UNDER_WAY, LogTrace, logged_requests
from fairlead.observe.read_log import read_log, read_runs
from fairlead.workload.prefixes import block_names
from tests.strategies import request, spec
from tests.world import World, fleet

INTERACTIVE = Objective("interactive", ttft_s=0.5)


def written(world: World, path: Path, keep: bool = False, **about: Any) -> Path:
    log = EventLog(LogFile(path, about, print, keep=keep), lambda name: f"p{len(name)}")
    for now, event, actions in world.log:
        log.observe(event, actions, now)
    log.close()
    return path


def world(**options: Any) -> World:
    w = World(fleet(**options))
    w.up(spec("a", n_blocks=200, block_tokens=4))
    return w


def rows(path: Path) -> list[Any]:
    return list(LogTrace(path).rows())


def test_a_request_comes_back_as_it_came(tmp_path: Path) -> None:
    w = world()
    w.now = 5.0
    w.arrive(request("r1", prompt=70, out=3, objective=INTERACTIVE, tenant="alice", arrival_s=5.0))
    w.settle()
    w.now = 7.5
    w.arrive(request("r2", prompt=9, out=4, arrival_s=7.25, program=ProgramId("my session")))
    w.settle()
    one, two = rows(written(w, tmp_path / "log"))
    assert (one.arrival_s, one.prompt_tokens, one.output_tokens) == (0.0, 70, 3)
    assert (one.objective, one.tenant, one.model, one.max_tokens) == (INTERACTIVE, "alice", "m", 3)
    assert (two.arrival_s, two.output_tokens, two.session_id) == (2.25, 4, "p10")
    assert "my session" not in (tmp_path / "log").read_text()


def test_which_tenants_shared_their_prefixes_is_known(tmp_path: Path) -> None:
    w = world()
    w.arrive(request("r1", tenant="alice", cache_salt=b"alice"))
    w.arrive(request("r2", tenant="ben"))
    w.settle()
    one, two = rows(written(w, tmp_path / "log"))
    assert (one.shares_prefixes, two.shares_prefixes) == (False, True)


def test_prompts_that_began_alike_do_so_again(tmp_path: Path) -> None:
    w = world()
    start = list(range(130))
    for id, prompt in (("r1", [*start, 1, 2]), ("r2", [*start, 3, 4]), ("r3", [9] * 132)):
        w.arrive(request(id, prompt=prompt, out=1))
        w.settle()
    one, two, three = (block_names(row, 4) for row in rows(written(w, tmp_path / "log")))
    # Two pieces of 64 tokens, in blocks of 4.
    assert len(one) == 32
    assert one == two
    assert not set(one) & set(three)


def test_runs_of_fresh_numbers_are_short_and_old_ones_are_forgotten() -> None:
    def names(*ids: int) -> list[BlockHash]:
        return [BlockHash(str(i).encode()) for i in ids]

    numbers = PrefixNumbers(most_kept=8)
    assert numbers.runs(names(1, 2, 3), 64) == [0, 3]
    assert numbers.runs(names(1, 2, 9), 64) == [0, 2, 3, 1]
    assert numbers.runs(names(*range(100, 108)), 64) == [4, 8]
    assert numbers.runs(names(1), 64) == [12, 1]
    assert numbers.runs(names(*range(8)), 16) == [13, 2]


def test_who_left_wanted_what_it_got_and_who_was_rejected_is_guessed(tmp_path: Path) -> None:
    w = world(max_queued=0)
    for i in range(5):
        w.arrive(request(f"r{i}", out=5, objective=INTERACTIVE))
        w.settle()
    w.arrive(request("left", out=50))
    for _ in range(4):
        w.now += 1.0
        w.deliver_to_instance("a")
        w.begin_step("a")
        w.end_step("a")
        w.deliver_to_fleet("a")
    w.cancel("left")
    w.settle()
    w.arrive(request("rejected", model="unknown", out=40, objective=INTERACTIVE))
    w.arrive(request("short", model="unknown", out=2, objective=INTERACTIVE))
    w.arrive(request("under-way", out=30))
    path = written(w, tmp_path / "log")
    names = [logged.asked["request"] for logged in logged_requests(path)]
    found = dict(zip(names, rows(path), strict=False))
    assert found["left"].output_tokens == 4
    assert found["rejected"].output_tokens == 5
    assert found["short"].output_tokens == 2
    trace = LogTrace(path)
    assert (trace.n_guessed, len(list(trace.rows()))) == (2, 8)
    assert trace.skipped == {UNDER_WAY: 1}
    assert log_summary(trace).to_json()["requests"]["failed"] == 0
    assert rows(path) == rows(path)


def test_where_nothing_ever_finished_there_is_nothing_to_guess_from(tmp_path: Path) -> None:
    w = world()
    w.arrive(request("r1", model="unknown"))
    trace = LogTrace(written(w, tmp_path / "log"))
    assert list(trace.rows()) == []
    assert trace.skipped == {NO_LENGTH: 1}


def test_a_log_without_requests_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tells of no request"):
        LogTrace(written(world(), tmp_path / "log"))


def test_runs_follow_one_another_by_the_clock_on_the_wall(tmp_path: Path) -> None:
    """A gateway that was restarted: another monotonic clock, the same ids, one log."""
    path = tmp_path / "log"
    for clock_s, wall_s in ((100.0, 5000.0), (3.0, 5060.0)):
        w = world()
        w.now = clock_s
        w.arrive(request("r1", out=2, arrival_s=clock_s + 1))
        w.settle()
        written(w, path, keep=True, clock_s=clock_s, wall_time_s=wall_s)
    trace = LogTrace(path)
    assert trace.begun_s == 5001.0
    assert [row.arrival_s for row in trace.rows()] == [0.0, 60.0]
    # A story is told of the last run alone.
    assert sum(line["what"] == "arrived" for line in read_log(path)) == 1
    assert sum(line["what"] == "log" for line in read_runs(path)) == 2


def test_what_was_under_way_when_a_gateway_was_killed_ends_there(tmp_path: Path) -> None:
    path = tmp_path / "log"
    w = world()
    w.arrive(request("done", out=3))
    w.settle()
    w.arrive(request("r1", out=9))
    written(w, path, clock_s=0.0, wall_time_s=100.0)
    with path.open("ab") as file:
        file.write(b'{"t":1.0,"what":"comp')  # it was writing when it died
    w = world()
    w.arrive(request("r1", out=3))
    w.settle()
    written(w, path, keep=True, clock_s=0.0, wall_time_s=200.0)
    assert [(r.asked["request"], r.finished) for r in logged_requests(path)] == [
        ("done", True),
        ("r1", False),
        ("r1", True),
    ]


def test_a_kept_log_grows_over_its_parts_and_loses_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for run in range(2 * PARTS):
        file = LogFile(path, {"run": run}, print, max_bytes=PARTS * 400, keep=True)
        for i in range(3):
            file.write({"t": float(i), "what": "x", "run": run})
        file.close()
    assert len(parts(path)) == PARTS
    assert sum(part.stat().st_size for part in parts(path)) <= PARTS * 400
    kept = [line["run"] for line in read_runs(path) if line["what"] == "x"]
    assert kept == sorted(kept)
    assert kept[-1] == 2 * PARTS - 1
    assert kept[0] == PARTS
    # Without `keep` everything before is replaced.
    LogFile(path, {}, print).close()
    assert parts(path) == [path]
    assert not older(path, 3).exists()


def test_what_really_happened_is_summed_up(tmp_path: Path) -> None:
    w = world()
    w.arrive(request("r1", out=3, objective=Objective("x", ttft_s=1e-9)))
    w.settle()
    w.now = 10.0
    w.arrive(request("r2", out=3, objective=Objective("x", ttft_s=9.0), arrival_s=10.0))
    w.arrive(request("r3", model="unknown", arrival_s=10.0))
    w.settle()
    trace = LogTrace(written(w, tmp_path / "log", fleet="test"))
    whole = log_summary(trace).to_json()
    assert (whole["requests"]["finished"], whole["requests"]["rejected"]) == (2, 1)
    assert whole["attainment"] == pytest.approx(1 / 3)
    assert whole["fleet"] == "test"
    part = log_summary(trace, (5.0, 20.0)).to_json()
    assert (part["requests"]["total"], part["attainment"]) == (2, 0.5)
    json.dumps(whole)
