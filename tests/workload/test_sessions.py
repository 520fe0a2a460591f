"""In a closed loop a call waits for the one before it, and a slow fleet sees later arrivals."""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import pairwise
from pathlib import Path

import pytest

from fairlead.model import ConfigError
from fairlead.workload.generate.lengths import Constant
from fairlead.workload.row import TraceRow
from fairlead.workload.sessions import ASSUMED_TPOT_S, known_gap_s
from fairlead.workload.shape import Shape, ShapedTrace
from fairlead.workload.trace import open_trace

SHARED = Path(__file__).parents[2] / ".." / "shared" / "traces"
SESSIONS = """session_id,turn,prompt_tokens,output_tokens,tool_gap_s
a,0,10,1,
a,1,11,1,2
a,2,12,1,3
b,0,20,1,
c,0,30,1,
c,1,31,1,5
"""


def shaped(path: Path, text: str, shape: Shape | None = None, **options: object) -> ShapedTrace:
    path.write_text(text)
    shape = shape or Shape(process="constant", rate_rps=0.1)
    return ShapedTrace(open_trace(path), shape, closed_loop=True, **options)  # type: ignore[arg-type]


def played(trace: ShapedTrace, service_s: float) -> list[TraceRow]:
    """All calls in order of arrival, each served for so long."""
    waiting = [(row.arrival_s or 0.0, row.index, row) for row in trace.rows()]
    order = []
    while waiting:
        arrival_s, _, row = heappop(waiting)
        order.append(row)
        following = trace.follow(row, arrival_s + service_s)
        if following is not None:
            heappush(waiting, (following.arrival_s or 0.0, following.index, following))
    return order


def test_only_first_calls_are_known_in_advance(tmp_path: Path) -> None:
    trace = shaped(tmp_path / "t.csv", SESSIONS)
    rows = list(trace.rows())
    assert [(row.session_id, row.turn, row.arrival_s) for row in rows] == [
        ("a", 0, 0.0),
        ("b", 0, pytest.approx(10)),
        ("c", 0, pytest.approx(20)),
    ]
    assert trace.n_rows == 6
    assert trace.duration_s is None


@pytest.mark.parametrize("service_s", [0.5, 40.0])
def test_a_call_arrives_a_gap_after_the_end_of_the_one_before(
    tmp_path: Path, service_s: float
) -> None:
    calls = played(shaped(tmp_path / "t.csv", SESSIONS), service_s)
    arrivals = {(call.session_id, call.turn): call.arrival_s for call in calls}
    assert len(calls) == 6
    assert arrivals["a", 1] == pytest.approx(service_s + 2)
    assert arrivals["a", 2] == pytest.approx(2 * service_s + 5)
    assert arrivals["c", 1] == pytest.approx(20 + service_s + 5)


def test_a_session_ends_where_the_driver_stops_asking(tmp_path: Path) -> None:
    trace = shaped(tmp_path / "t.csv", SESSIONS)
    a, b, c = trace.rows()
    assert trace.follow(b, 11.0) is None
    second = trace.follow(c, 21.0)
    assert second is not None
    assert trace.follow(second, 30.0) is None
    assert a.turn == 0


def test_a_reading_starts_from_the_beginning(tmp_path: Path) -> None:
    trace = shaped(tmp_path / "t.csv", SESSIONS)
    first = [(row.index, row.arrival_s) for row in played(trace, 1.0)]
    assert [(row.index, row.arrival_s) for row in played(trace, 1.0)] == first


def test_speed_shortens_gaps_and_a_limit_cuts_a_session_short(tmp_path: Path) -> None:
    shape = Shape(process="constant", rate_rps=0.1, speed=2, limit=5)
    calls = played(shaped(tmp_path / "t.csv", SESSIONS, shape), 1.0)
    arrivals = {(call.session_id, call.turn): call.arrival_s for call in calls}
    assert len(calls) == 5
    assert arrivals["a", 1] == pytest.approx(2.0)
    assert arrivals["b", 0] == pytest.approx(5.0)


def test_sessions_whose_rows_are_scattered_are_gathered(tmp_path: Path) -> None:
    head, *lines = SESSIONS.splitlines()
    scattered = "\n".join([head, lines[2], lines[3], lines[0], lines[4], lines[1], lines[5]])
    trace = shaped(tmp_path / "t.csv", scattered)
    assert not trace.extent.together
    assert trace.extent.n_sessions == 3
    calls = played(trace, 1.0)
    assert [call.turn for call in calls if call.session_id == "a"] == [0, 1, 2]
    assert len(calls) == 6


def test_without_any_times_think_times_are_drawn_from_the_seed(tmp_path: Path) -> None:
    text = "session_id,prompt_tokens,output_tokens\n" + "".join(
        f"s{i // 50},10,1\n" for i in range(2000)
    )

    def gaps(seed: int, shape: Shape) -> list[float]:
        calls = played(shaped(tmp_path / "t.csv", text, shape, seed=seed), 0.0)
        calls.sort(key=lambda call: call.index)
        times = [(call.session_id, call.arrival_s or 0.0) for call in calls]
        return [b[1] - a[1] for a, b in pairwise(times) if a[0] == b[0]]

    drawn = gaps(1, Shape(rate_rps=1))
    assert sum(drawn) / len(drawn) == pytest.approx(5, rel=0.1)
    assert drawn == gaps(1, Shape(rate_rps=1))
    assert drawn != gaps(2, Shape(rate_rps=1))
    assert gaps(1, Shape(rate_rps=1, think=Constant(3))) == pytest.approx([3.0] * 1960)


def call(**fields: object) -> TraceRow:
    return TraceRow(0, None, 10, 100, session_id="s", **fields)  # type: ignore[arg-type]


def test_the_gap_of_a_call_comes_from_the_best_that_the_trace_says() -> None:
    before = call(turn=3, agent_id="main", session_t_s=10.0, src_e2e_s=4.0)
    own = call(turn=4, agent_id="main", session_t_s=20.0, tool_gap_s=5.5)
    assert known_gap_s(before, own) == 5.5
    # A sub-agent starts after the main agent's call; its own gap is empty.
    sub = call(turn=4, agent_id="sub", session_t_s=20.0)
    assert known_gap_s(before, sub) == pytest.approx(6.0)
    # The main agent waited for its sub-agent: the gap of 90 s from its own last call is not it.
    done = call(turn=5, agent_id="main", session_t_s=100.0, tool_gap_s=86.0)
    last_of_sub = call(turn=4, agent_id="sub", session_t_s=90.0, src_e2e_s=8.0)
    assert known_gap_s(last_of_sub, done) == pytest.approx(2.0)
    # Two sub-agents side by side follow one another.
    beside = call(turn=5, agent_id="other", session_t_s=91.0)
    assert known_gap_s(last_of_sub, beside) == 0.0
    # A call between the two was left out.
    assert known_gap_s(before, call(turn=6, agent_id="main", session_t_s=30.0, tool_gap_s=1.0)) == (
        pytest.approx(16.0)
    )
    # Nobody knows how long the call before took: it counts its tokens.
    guessed = known_gap_s(call(turn=0, session_t_s=0.0), call(turn=1, session_t_s=2.0))
    assert guessed == pytest.approx(2.0 - 100 * ASSUMED_TPOT_S)
    assert known_gap_s(call(turn=0), call(turn=1)) is None


def test_without_a_rate_sessions_have_no_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--rate R starts R sessions a second"):
        shaped(tmp_path / "t.csv", SESSIONS, Shape())


def test_an_open_loop_plays_all_calls_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(SESSIONS)
    trace = ShapedTrace(open_trace(path), Shape(rate_rps=1))
    rows = list(trace.rows())
    assert len(rows) == 6
    assert trace.follow(rows[0], 1.0) is None
    assert "overlap" in trace.arrivals


@pytest.mark.skipif(not SHARED.exists(), reason="the shared traces are not on this machine")
@pytest.mark.parametrize(
    ("name", "n_calls", "gaps"),
    [
        ("swe_agent_tools", 5253, "gaps of the trace"),
        ("taubench_airline", 1321, "think times exp:mean=5"),
        ("agents_lmcache", 555, "guessed from the times"),
        ("text2sql_programs", 1651, "think times"),
    ],
)
def test_shared_sessions_are_played_whole_and_forgotten(name: str, n_calls: int, gaps: str) -> None:
    trace = ShapedTrace(
        open_trace(SHARED / f"{name}.parquet"), Shape(rate_rps=0.5), closed_loop=True
    )
    calls = played(trace, 2.0)
    assert len(calls) == n_calls == trace.n_rows
    assert trace.extent.together
    assert all((a.arrival_s or 0) <= (b.arrival_s or 0) for a, b in pairwise(calls))
    assert gaps in trace.arrivals
    assert "sessions/s" in trace.arrivals
    assert trace._sessions is not None
    assert trace._sessions.n_under_way == 0
