"""Fits find the model behind the points, noise and wild points notwithstanding."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest

from fairlead.latency import FitError, Linear, Point, StepShape, measure_error
from fairlead.latency.fit import (
    fit_linear,
    fit_thirteen,
    non_negative_least_squares,
    phase,
    split,
)
from fairlead.latency.forms import Form
from fairlead.model import ConfigError
from tests.latency.test_forms import RTX

LAPTOP = Linear(
    base_s=2e-3,
    gemm_s_per_token=40e-6,
    decode_s_per_sequence=80e-6,
    decode_s_per_context_token=2e-7,
    prefill_s_per_pair=3e-8,
)


def a_shape(rng: Random, kind: str, most_tokens: int = 4096) -> StepShape:
    """A step of `decode`, `prefill` or `mixed` rows such as an engine runs."""
    decodes = round(2 ** rng.uniform(0, 8)) if kind != "prefill" else 0
    each = round(2 ** rng.uniform(5, 13)) if decodes else 0
    tokens = round(2 ** rng.uniform(4, math.log2(most_tokens))) if kind != "decode" else 0
    start = rng.choice([0, 512, 4096]) if tokens else 0
    return StepShape(
        decodes,
        decodes * each,
        tokens,
        tokens * (start + tokens / 2),
        max(each, start + tokens),
        decodes + (tokens > 0),
    )


def measured(model: Form, shapes: list[StepShape], noise: float, seed: int = 0) -> list[Point]:
    rng = Random(seed)
    return [(shape, model.step_s(shape) * rng.lognormvariate(0, noise)) for shape in shapes]


def some_shapes(n: int, seed: int = 0) -> list[StepShape]:
    rng = Random(seed)
    return [a_shape(rng, ("decode", "prefill", "mixed")[i % 3]) for i in range(n)]


def test_linear_is_found_again_without_noise() -> None:
    found = fit_linear(measured(LAPTOP, some_shapes(30), noise=0.0))
    for name, value in LAPTOP.coefficients().items():
        assert found.coefficients()[name] == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("n", [10, 20, 30])
def test_linear_behaves_with_few_noisy_points(n: int, seed: int) -> None:
    points = measured(LAPTOP, some_shapes(n, seed), noise=0.05, seed=seed)
    found = fit_linear(points)
    assert all(value >= 0 for value in found.coefficients().values())
    truth = [(shape, LAPTOP.step_s(shape)) for shape in some_shapes(200, seed + 100)]
    assert measure_error(found, truth).mean_abs_pct < 12


def test_one_hiccup_does_not_bend_the_fit() -> None:
    points = measured(LAPTOP, some_shapes(20), noise=0.02)
    points[7] = (points[7][0], 10 * points[7][1])
    truth = [(shape, LAPTOP.step_s(shape)) for shape in some_shapes(200, 100)]
    assert measure_error(fit_linear(points), truth).mean_abs_pct < 5


def test_decodes_alone_are_enough_for_a_linear_fit() -> None:
    rng = Random(3)
    points = measured(LAPTOP, [a_shape(rng, "decode") for _ in range(12)], noise=0.03)
    truth = [(s, LAPTOP.step_s(s)) for s in (a_shape(rng, "decode") for _ in range(100))]
    assert measure_error(fit_linear(points), truth).mean_abs_pct < 8


def test_a_single_point_is_met_exactly() -> None:
    shape = StepShape(4, 400, 0, 0.0, 100, 4)
    assert fit_linear([(shape, 0.02)]).step_s(shape) == pytest.approx(0.02)


@pytest.mark.parametrize("seconds", [[], [0.0], [-1.0], [math.nan], [math.inf]])
def test_points_without_a_duration_are_refused(seconds: list[float]) -> None:
    shape = StepShape(4, 400, 0, 0.0, 100, 4)
    with pytest.raises(ConfigError, match="measure again"):
        fit_linear([(shape, s) for s in seconds])


def test_least_squares_stays_at_the_border() -> None:
    """Unconstrained, the second coefficient would be -1."""
    a = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    assert non_negative_least_squares(a, np.array([3.0, 2.0, 1.0])) == pytest.approx([2.0, 0.0])


def test_least_squares_agrees_with_scipy() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(5)
    for _ in range(50):
        a = rng.normal(size=(12, 5))
        b = rng.normal(size=12)
        ours = non_negative_least_squares(a, b)
        assert (ours >= 0).all()
        assert np.linalg.norm(a @ ours - b) == pytest.approx(optimize.nnls(a, b)[1], abs=1e-9)


def test_thirteen_are_found_again_from_noisy_points() -> None:
    pytest.importorskip("scipy")
    fitted, unseen = split(measured(RTX, some_shapes(600), noise=0.02), seed=1)
    found = fit_thirteen(fitted)
    for kind in ("decode", "prefill", "mixed"):
        error = measure_error(found, [p for p in unseen if phase(p[0]) == kind])
        assert error.mean_abs_pct < 3, kind
        assert abs(error.bias_pct) < 1, kind
    # The physical quantities, beyond the sums that only together can be told.
    assert found.decode_s_per_context_token == pytest.approx(9.05e-8, rel=0.05)
    assert found.gemm_s_per_token == pytest.approx(36.7e-6, rel=0.1)
    assert found.walk_s_per_context_token == pytest.approx(7.07e-7, rel=0.25)


def test_without_mixed_steps_their_coefficients_take_the_default() -> None:
    pytest.importorskip("scipy")
    shapes = [s for s in some_shapes(300) if phase(s) != "mixed"]
    found = fit_thirteen(measured(RTX, shapes, noise=0.01))
    assert found.prefill_s_per_context_token == found.decode_s_per_context_token
    assert found.prefill_s_per_sequence == found.decode_s_per_sequence


@pytest.mark.parametrize("seed", range(8))
def test_of_few_points_a_roofline_tells_long_prompts_and_a_line_does_not(seed: int) -> None:
    """Most prompts take as long as reading the weights does; a line is drawn through these."""
    pytest.importorskip("scipy")
    rng = Random(seed)
    kinds = ["decode"] * 7 + ["prefill"] * 17
    shapes = [a_shape(rng, kind, most_tokens=2048) for kind in kinds]
    points = measured(RTX, shapes, noise=0.03, seed=seed)
    long = [StepShape(0, 0, n, n * n / 2, n, 1) for n in (512, 1024, 2048)]
    truth = [(shape, RTX.step_s(shape)) for shape in long]
    error_pct = measure_error(fit_thirteen(points), truth).mean_abs_pct
    assert error_pct < 15
    assert error_pct < measure_error(fit_linear(points), truth).mean_abs_pct


def test_thirteen_need_both_phases() -> None:
    rng = Random(0)
    points = measured(RTX, [a_shape(rng, "decode") for _ in range(50)], noise=0.0)
    with pytest.raises(ConfigError, match="prefill steps"):
        fit_thirteen(points)


def test_halves_are_disjoint_and_depend_on_the_seed_only() -> None:
    points = measured(LAPTOP, some_shapes(100), noise=0.0)
    first, second = split(points, 7)
    assert sorted(map(repr, first + second)) == sorted(map(repr, points))
    assert (first, second) == split(points, 7)
    assert 30 < len(first) < 70


def test_the_error_is_counted_in_per_cent_of_the_measured() -> None:
    error = FitError.of([(1.1, 1.0), (0.9, 1.0), (2.0, 1.0)])
    assert error.mean_abs_pct == pytest.approx(40)
    assert error.bias_pct == pytest.approx(100 / 3)
    assert error.p95_abs_pct == pytest.approx(100)
    assert error.n_points == 3


def test_nineteen_of_twenty_points_lie_within_the_p95() -> None:
    error = FitError.of([(1 + i / 100, 1.0) for i in range(1, 21)])
    assert error.p95_abs_pct == pytest.approx(19)
