"""How much KV memory a batch will need at its worst future moment.

Source: Past-Future scheduler (ModelTC/lightllm).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def future_peak(sequences: Iterable[tuple[int, int]]) -> int:
    """Most tokens held at once by `(held_tokens, remaining_tokens)` sequences that all decode.

    Just before the k-th longest-lived finishes, exactly the k longest-lived are still there and
    each has grown by the k-th's remaining length. O(n log n). Shared prefixes count once a
    sequence, so the figure is an upper bound where there are any.
    """
    pairs = np.array(list(sequences), np.int64).reshape(-1, 2)
    return worst_future_peak(pairs[:, 0], pairs[None, :, 1])


def worst_future_peak(held: NDArray[np.int64], remaining: NDArray[np.int64]) -> int:
    """The highest `future_peak` among several futures of one batch: `held` tokens of n sequences,
    and a row of n `remaining` lengths for each future."""
    if not held.size:
        return 0
    order = np.argsort(-remaining, axis=1, kind="stable")
    left = np.take_along_axis(remaining, order, axis=1)
    there = np.cumsum(held[order], axis=1)
    peaks = there + left * np.arange(1, held.size + 1)
    return int(max(peaks.max(), 0))
