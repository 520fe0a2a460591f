"""Steps out of the times of tokens."""

from __future__ import annotations

import pytest

from fairlead.client.calibrate.inferring import Way, decode_point, fit_way, prefill_point
from fairlead.client.calibrate.probing import Heard
from fairlead.latency import StepShape

STEP_S = 0.01


def a_stream(prompt: int, first_s: float, n: int = 33) -> Heard:
    return Heard(prompt, 0.0, first_s, [STEP_S] * (n - 1), n)


def test_streams_side_by_side_tell_the_step_and_its_context() -> None:
    # The second begins 10 steps later: both decode together from 0.2 s to 0.42 s.
    point = decode_point([a_stream(100, 0.1), a_stream(300, 0.2)])
    assert point is not None
    shape, seconds = point
    assert seconds == pytest.approx(STEP_S, rel=0.03)
    assert shape.decodes == shape.sampled == 2
    # On average the first has brought 22 tokens in this time, and the second 12.
    assert shape.decode_context == pytest.approx(100 + 22 + 300 + 12, abs=2)


def test_streams_that_hardly_met_tell_nothing() -> None:
    assert decode_point([a_stream(100, 0.1), a_stream(100, 0.1 + 31 * STEP_S)]) is None


def test_tokens_that_came_many_at_once_count_evenly() -> None:
    heard = Heard(10, 0.0, 1.0, [0.04] * 7, 32)  # Eight chunks of four.
    point = decode_point([heard])
    assert point is not None
    assert point[1] == pytest.approx(0.01, rel=0.01)


def test_a_prompt_by_itself_tells_its_step_less_the_way() -> None:
    heard = Heard(1000, 0.0, 0.25, [], 1)
    assert prefill_point(heard, Way(0.04, 1e-5)) == (
        StepShape(0, 0, 1000, 500_000.0, 1000, 1),
        pytest.approx(0.2),
    )
    assert prefill_point(heard, Way(0.3)) is None


def test_the_way_is_a_line_that_wild_points_do_not_bend() -> None:
    rests = [(n, 0.002 + 3e-6 * n) for n in (10, 100, 500, 1000, 2000)]
    rests[2] = (500, 0.5)
    way = fit_way(rests)
    assert (way.s, way.s_per_token) == (pytest.approx(0.002), pytest.approx(3e-6))


def test_one_length_tells_no_slope_and_nothing_is_below_0() -> None:
    assert fit_way([(2, 0.003), (2, 0.001), (2, 0.002)]) == Way(0.002, 0.0)
    assert fit_way([(2, -0.003), (200, -0.004)]) == Way(0.0, 0.0)
