"""What finished lengths say about those still running."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.policies.batching.lengths import FinishedLengths


def finished(*output_tokens: int, window: int = 20) -> FinishedLengths:
    lengths = FinishedLengths(window, 50, Random(7))
    for n in output_tokens:
        lengths.add(n)
    return lengths


def test_what_is_expected_is_the_mean_of_those_that_were_longer() -> None:
    lengths = finished(*[10] * 10, *[20] * 5, *[100] * 5)
    assert lengths.expected_remaining(0, 1000) == (100 + 100 + 500) / 20
    assert lengths.expected_remaining(10, 1000) == pytest.approx(60 - 10)
    assert lengths.expected_remaining(30, 80) == 80 - 30
    assert lengths.expected_remaining(100, 1000) == 100
    lengths.add(1000)
    assert lengths.expected_remaining(100, 2000) == 1000 - 100


@given(
    st.lists(st.integers(1, 300), max_size=40),
    st.lists(st.tuples(st.integers(0, 400), st.integers(1, 500)), min_size=1, max_size=12),
    st.integers(1, 5),
)
def test_no_future_brings_more_than_the_bound_says(
    ended: list[int], batch: list[tuple[int, int]], n_draws: int
) -> None:
    produced = np.array([n for n, _ in batch])
    most = produced + np.array([more for _, more in batch])
    futures = finished(*ended).draw(n_draws, len(batch))
    remaining = futures.remaining(produced, most)
    assert remaining.shape == (n_draws, len(batch))
    assert (remaining >= 0).all()
    assert (remaining <= most - produced).all()
    assert remaining.sum(axis=1).max() <= futures.at_most(produced, most)
