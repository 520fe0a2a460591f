"""Means over seeds, and when two of them differ."""

from __future__ import annotations

import pytest
from scipy import stats

from fairlead.planner.interval import interval, t_95, told_apart


@pytest.mark.parametrize("freedom", [1, 2, 9, 30, 31, 60, 500])
def test_the_t_distribution_is_that_of_scipy(freedom: int) -> None:
    assert t_95(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=2e-4)


def test_an_interval_is_that_of_the_textbook() -> None:
    values = [4.0, 5.0, 6.5, 4.5]
    found = interval(values)
    low, high = stats.t.interval(0.95, 3, loc=5.0, scale=stats.sem(values))
    assert found.mean == 5.0
    assert found.half_width == pytest.approx((high - low) / 2, rel=1e-3)


def test_one_value_has_no_interval() -> None:
    assert interval([3.0]).half_width is None


def test_pairs_tell_apart_what_intervals_alone_do_not() -> None:
    """Seeds differ much more than the two do, but the first is always a little better."""
    a, b = [10.0, 20.0, 30.0, 40.0], [9.1, 18.9, 29.0, 39.1]
    assert told_apart(a, b)
    assert not told_apart(a, [11.0, 19.0, 31.0, 39.0])


def test_a_single_seed_tells_everything_apart() -> None:
    assert told_apart([1.0], [1.0])
