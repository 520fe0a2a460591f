"""A calibration says how well it tells steps that it has not seen."""

from __future__ import annotations

from random import Random

import pytest

from fairlead.latency import StepShape
from fairlead.latency.calibration import RUN, calibrate, points_of
from fairlead.model import ConfigError
from tests.latency.test_fit import LAPTOP, measured, some_shapes
from tests.latency.test_forms import RTX


def test_the_better_form_is_chosen_by_unseen_points_and_its_error_is_the_noise() -> None:
    fitted = measured(RTX, some_shapes(240), noise=0.05)
    unseen = measured(RTX, some_shapes(120, seed=1), noise=0.05, seed=1)
    found = calibrate(fitted, unseen)
    assert found.name == "ThirteenCoefficients"
    assert set(found.errors) == {"all", "decode", "prefill", "mixed"}
    # The mean of |N(0, 5 %)| is 4 %; what is more is the fit's.
    assert 3.0 < found.errors["all"].mean_abs_pct < 6.0
    assert found.rejected["Linear"].mean_abs_pct > found.errors["all"].mean_abs_pct


def test_few_points_are_told_by_the_linear_form() -> None:
    points = measured(LAPTOP, some_shapes(36), noise=0.02)
    found = calibrate(points[::2], points[1::2])
    assert found.name == "Linear"
    assert found.errors["all"].mean_abs_pct < 6.0


def test_what_steps_add_up_to_is_right_where_the_noise_is_one_sided() -> None:
    rng = Random(0)
    # Now and then something else had the machine: the usual step is not the mean step.
    points = [
        (shape, seconds * (1.25 if rng.random() < 0.3 else 1.0))
        for shape, seconds in measured(LAPTOP, some_shapes(300), noise=0.0)
    ]
    form = calibrate(points[::2], points[1::2]).form
    ratio = sum(seconds / form.step_s(shape) for shape, seconds in points) / len(points)
    assert ratio == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(("n_fitted", "n_unseen"), [(0, 0), (11, 5), (40, 0)])
def test_too_few_points_are_refused_with_what_to_do(n_fitted: int, n_unseen: int) -> None:
    points = measured(LAPTOP, some_shapes(60), noise=0.0)
    with pytest.raises(ConfigError, match="give --seconds more"):
        calibrate(points[:n_fitted], points[60 - n_unseen :])


def a_decode(context: int) -> StepShape:
    return StepShape(4, context, 0, 0.0, 0, 4)


def test_decodes_in_a_row_become_one_point_and_a_step_away_from_work_none() -> None:
    steps = [(a_decode(100 + 4 * i), 0.010) for i in range(2 * RUN)]
    steps[3] = (steps[3][0], 0.200)
    first, second = points_of(steps)
    assert first == (a_decode(131), pytest.approx(0.010))
    assert second == (a_decode(100 + 4 * RUN + 30), pytest.approx(0.010))


def test_chunks_that_meet_the_same_load_become_one_point() -> None:
    chunk = StepShape(4, 400, 64, 64 * 32.0, 64, 5)
    other = StepShape(4, 400, 128, 128 * 64.0, 128, 5)
    steps = [(chunk, 0.02), (a_decode(404), 0.01), (chunk, 0.04), (other, 0.05)]
    assert points_of(steps) == [
        (a_decode(404), 0.01),
        (chunk, pytest.approx(0.03)),
        (other, 0.05),
    ]
