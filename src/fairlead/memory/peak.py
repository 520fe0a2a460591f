"""How much KV memory a batch will need at its worst future moment.

Source: Past-Future scheduler (ModelTC/lightllm).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

HELD_BITS = 32
"""Tokens held, and to come, are below two to this and to one less: far above any context."""


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
    # Both in one number, so that a plain sort has them in order, which numpy is fastest at.
    in_order = (remaining << HELD_BITS) + held
    in_order.sort(axis=1)
    longest_first = in_order[:, ::-1]
    there = (longest_first & ((1 << HELD_BITS) - 1)).cumsum(axis=1)
    there += (longest_first >> HELD_BITS) * np.arange(1, held.size + 1)
    return int(max(there.max(), 0))
