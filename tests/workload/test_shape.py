"""A part of a trace at another pace: never another order."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.model import ConfigError
from fairlead.workload.shape import Shape, ShapedTrace, parse_window
from fairlead.workload.trace import open_trace


def shaped(shape: Shape, **options: object) -> ShapedTrace:
    return ShapedTrace(open_trace("azure-conv-slice"), shape, **options)  # type: ignore[arg-type]


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_window_keeps_its_rows_and_starts_at_zero() -> None:
    part = shaped(Shape(window_s=(60, 90)))
    whole = list(open_trace("azure-conv-slice").rows())
    expected = [row.index for row in whole if 60 <= (row.arrival_s or 0) < 90]
    rows = list(part.rows())
    assert [row.index for row in rows] == expected
    assert rows[0].arrival_s == 0
    assert part.n_rows == len(expected)


@given(rate_rps=st.floats(0.01, 1000), limit=st.integers(2, 40))
def test_a_rate_is_hit_exactly_and_gaps_keep_their_proportions(rate_rps: float, limit: int) -> None:
    plain = list(shaped(Shape(limit=limit)).rows())
    part = shaped(Shape(limit=limit, rate_rps=rate_rps))
    rows = list(part.rows())
    assert (limit - 1) / (rows[-1].arrival_s or 1) == pytest.approx(rate_rps)
    assert [row.index for row in rows] == [row.index for row in plain]
    stretch = (rows[-1].arrival_s or 0) / (plain[-1].arrival_s or 1)
    assert [row.arrival_s for row in rows] == pytest.approx(
        [(row.arrival_s or 0) * stretch for row in plain]
    )
    assert part.duration_s == pytest.approx(rows[-1].arrival_s)


def test_speed_divides_times() -> None:
    fast = list(shaped(Shape(speed=4, limit=10)).rows())
    plain = list(shaped(Shape(limit=10)).rows())
    assert [4 * (row.arrival_s or 0) for row in fast] == pytest.approx(
        [row.arrival_s for row in plain]
    )


def test_rows_that_arrive_all_at_once_have_no_rate_to_rescale(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "arrival_s,prompt_tokens,output_tokens\n3,1,1\n3,1,1\n")
    rows = list(ShapedTrace(open_trace(path), Shape(rate_rps=5)).rows())
    assert [row.arrival_s for row in rows] == [0, 0]


@pytest.mark.parametrize("column", ["", "session_t_s,"])
def test_without_arrivals_they_must_be_chosen(tmp_path: Path, column: str) -> None:
    value = "1," if column else ""
    path = written(tmp_path / "t.csv", f"{column}prompt_tokens,output_tokens\n{value}1,1\n")
    trace = open_trace(path)
    with pytest.raises(ConfigError, match="arrivals must be chosen: --rate R"):
        ShapedTrace(trace, Shape())
    assert [row.arrival_s for row in ShapedTrace(trace, Shape(rate_rps=2)).rows()] == [0]
    assert ShapedTrace(trace, Shape(), timed=False).n_rows == 1
    with pytest.raises(ConfigError, match="--window needs arrival times"):
        ShapedTrace(trace, Shape(window_s=(0, 1), rate_rps=1))


def test_poisson_arrivals_come_from_the_seed_in_the_order_of_the_file(tmp_path: Path) -> None:
    lines = "".join(f"{i + 1},1\n" for i in range(3000))
    path = written(tmp_path / "t.csv", "prompt_tokens,output_tokens\n" + lines)

    def times(seed: int) -> list[float | None]:
        rows = list(ShapedTrace(open_trace(path), Shape(rate_rps=5), seed).rows())
        assert [row.prompt_tokens for row in rows] == list(range(1, 3001))
        return [row.arrival_s for row in rows]

    drawn = times(1)
    assert drawn[0] == 0
    assert drawn == times(1)
    assert drawn != times(2)
    assert (drawn[-1] or 0) / 2999 == pytest.approx(0.2, rel=0.06)


def test_a_named_process_replaces_the_times_of_the_trace() -> None:
    part = shaped(Shape(process="constant", rate_rps=4, limit=9))
    assert [row.arrival_s for row in part.rows()] == pytest.approx([i / 4 for i in range(9)])
    assert part.arrivals == "constant, 4/s, seed 0"
    assert part.duration_s is None
    assert shaped(Shape(process="gamma:cv=3", rate_rps=4)).arrivals == "gamma cv=3, 4/s, seed 0"
    with pytest.raises(ConfigError, match="rate is missing"):
        Shape(process="gamma:cv=2")


def test_scaled_lengths_scale_prefix_blocks_too(tmp_path: Path) -> None:
    text = "arrival_s,prompt_tokens,output_tokens,hash_ids\n0,1024,3,1 2\n"
    part = ShapedTrace(open_trace(written(tmp_path / "t.csv", text)), Shape(lengths=0.25))
    (row,) = part.rows()
    assert (row.prompt_tokens, row.output_tokens, row.hash_block_tokens) == (256, 1, 128)


def test_a_limit_and_a_window_cut_inside_a_part() -> None:
    whole = [row.index for row in shaped(Shape()).rows()]
    assert [row.index for row in shaped(Shape(limit=7)).rows()] == whole[:7]
    part = shaped(Shape(window_s=(10, 90), limit=20))
    first = next(row.index for row in open_trace("azure-conv-slice").rows() if row.arrival_s >= 10)  # type: ignore[operator]
    assert [row.index for row in part.rows()] == list(range(first, first + 20))
    assert part.follow(next(part.rows()), 5.0) is None


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"rate_rps": 0}, "--rate must be above 0"),
        ({"speed": -1}, "--speed must be above 0"),
        ({"lengths": float("nan")}, "--scale must be above 0"),
        ({"limit": 0}, "--limit must be at least 1"),
        ({"window_s": (5, 5)}, "is empty"),
    ],
)
def test_impossible_shapes_are_refused(shape: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Shape(**shape)  # type: ignore[arg-type]


def test_nothing_left_to_play_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no row to play in the window 1000:2000 s"):
        shaped(Shape(window_s=(1000, 2000)))
    path = written(tmp_path / "t.csv", "prompt_tokens,output_tokens\n0,1\n")
    with pytest.raises(ConfigError, match="Left out: 1 rows where prompt_tokens is 0"):
        ShapedTrace(open_trace(path), Shape(rate_rps=1))


def test_windows_are_written_as_two_times() -> None:
    assert parse_window("60:120.5") == (60, 120.5)
    assert parse_window("60:") == (60, float("inf"))
    for text in ("60", "a:b", ":x"):
        with pytest.raises(ConfigError, match="A:B"):
            parse_window(text)
