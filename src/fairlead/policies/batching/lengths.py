"""The output lengths that lately finished, and what they say about those still running.

Not a policy: policies that need to guess a length ask here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from random import Random

import numpy as np
from numpy.typing import NDArray


class FinishedLengths:
    """A window of finished lengths. Given that an answer has produced some tokens, it is one of
    those that were longer."""

    def __init__(self, window: int, initial_tokens: int, rng: Random) -> None:
        """Half of the window is filled with `initial_tokens`: at the start, only short answers
        have finished."""
        self._lengths = deque([initial_tokens] * (window // 2), maxlen=window)
        self._generator = np.random.default_rng(rng.getrandbits(64))
        self._sorted: list[int] | None = None
        self._beyond: list[int] = []
        """Sum of the sorted lengths from each place on."""

    def add(self, output_tokens: int) -> None:
        self._lengths.append(output_tokens)
        self._sorted = None

    def expected_remaining(self, produced: int, most: int) -> float:
        """Mean tokens still to come of an answer that has `produced` and may have `most`."""
        lengths = self._in_order()
        place = bisect_right(lengths, produced)
        longer = len(lengths) - place
        if not longer:
            # Longer than all that were seen: as likely as not it lasts as long again.
            return min(max(produced, 1), most - produced)
        return min(self._beyond[place] / longer, most) - produced

    def draw_remaining(
        self, produced: NDArray[np.int64], most: NDArray[np.int64], n_draws: int
    ) -> NDArray[np.int64]:
        """Futures of a batch: a row for each draw, the tokens still to come of each sequence.

        Source: Past-Future scheduler. One that has not begun draws one of the lengths; one that
        has produced p draws uniformly from the distribution of the lengths beyond p, with `most`
        as its end.
        """
        lengths = np.array(self._in_order() or [0], np.int64)
        end = np.maximum(most, produced)
        place = np.searchsorted(lengths, produced, side="right")
        longer = len(lengths) - place
        at = self._generator.random((n_draws, len(produced))) * (longer + 1)
        low = at.astype(np.int64)
        last = len(lengths) - 1
        below = np.where(low == 0, produced, lengths[np.minimum(place + low - 1, last)])
        above = np.where(low < longer, lengths[np.minimum(place + low, last)], end)
        drawn = np.rint(below + (at - low) * (above - below)).astype(np.int64)
        if self._lengths:
            fresh = produced == 0
            chosen = self._generator.integers(0, len(lengths), (n_draws, len(produced)))
            drawn = np.where(fresh, lengths[chosen], drawn)
        remaining: NDArray[np.int64] = np.maximum(np.minimum(drawn, most) - produced, 0)
        return remaining

    def _in_order(self) -> list[int]:
        if self._sorted is None:
            self._sorted = sorted(self._lengths)
            self._beyond = np.cumsum(self._sorted[::-1])[::-1].tolist()
        return self._sorted
