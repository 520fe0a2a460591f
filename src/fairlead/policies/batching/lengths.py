"""The output lengths that lately finished, and what they say about those still running.

Not a policy: policies that need to guess a length ask here.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from collections import deque
from itertools import accumulate
from random import Random

import numpy as np
from numpy.typing import NDArray


class FinishedLengths:
    """A window of finished lengths. Given that an answer has produced some tokens, it is one of
    those that were longer."""

    def __init__(self, window: int, initial_tokens: int, rng: Random) -> None:
        """Half of the window is filled with `initial_tokens`: at the start, only short answers
        have finished."""
        self._window = deque([initial_tokens] * (window // 2), maxlen=window)
        self._in_order = array("q", self._window)
        self._longest_sums: list[int] = []
        """Of the longest, of the two longest and so on; empty until somebody asks."""
        self._generator = np.random.default_rng(rng.getrandbits(64))

    def add(self, output_tokens: int) -> None:
        if len(self._window) == self._window.maxlen:
            del self._in_order[bisect_left(self._in_order, self._window[0])]
        self._window.append(output_tokens)
        insort(self._in_order, output_tokens)
        self._longest_sums = []

    def expected_remaining(self, produced: int, most: int) -> float:
        """Mean tokens still to come of an answer that has `produced` and may have `most`."""
        lengths = self._in_order
        longer = len(lengths) - bisect_right(lengths, produced)
        if not longer:
            # Longer than all that were seen: as likely as not it lasts as long again.
            return min(max(produced, 1), most - produced)
        if not self._longest_sums:
            self._longest_sums = list(accumulate(reversed(lengths)))
        return min(self._longest_sums[longer - 1] / longer, most) - produced

    def draw(self, n_draws: int, n_sequences: int) -> Futures:
        """Several futures of a batch."""
        lengths = np.array(self._in_order or [0], np.int64)
        places = self._generator.random((n_draws, n_sequences))
        chosen = None
        if self._in_order:
            chosen = self._generator.integers(0, lengths.size, (n_draws, n_sequences))
        return Futures(lengths, places, chosen)


class Futures:
    """What sequences may still bring. Drawn, and computed as far as somebody wants to know: numpy
    is asked for every admission, and with few numbers, so what counts is how often.

    Source: Past-Future scheduler. One that has not begun draws one of the lengths; one that has
    produced p draws uniformly from the distribution of the lengths beyond p, with the `most` that
    it may have as its end.
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],
        places: NDArray[np.float64],
        chosen: NDArray[np.int64] | None,
    ) -> None:
        """`places` and `chosen` are [futures, sequences]: where in its distribution each ends, and
        which of the `lengths` it has if it has not begun."""
        self._lengths = lengths
        self._places = places
        self._chosen = chosen

    def at_most(self, produced: NDArray[np.int64], most: NDArray[np.int64]) -> int:
        """The tokens still to come of all, in the worst future, are not more than this."""
        longer = self._lengths.size - self._lengths.searchsorted(produced, side="right")
        longest = np.minimum(np.maximum(produced, self._lengths[-1]), most)
        # Beyond the longest that was seen lies nothing but the end.
        ends = self._places * (longer + 1) >= longer
        return int((longest - produced).sum() + (ends @ (most - longest)).max())

    def remaining(self, produced: NDArray[np.int64], most: NDArray[np.int64]) -> NDArray[np.int64]:
        """A row for each future, the tokens still to come of each sequence."""
        passed = self._lengths.searchsorted(produced, side="right")
        padded = np.zeros(self._lengths.size + 2, np.int64)
        padded[1:-1] = self._lengths
        longer = self._lengths.size - passed
        at = self._places * (longer + 1)
        low = at.astype(np.int64)
        at -= low
        # Between two neighbours among: what it has produced, the lengths beyond, and its end.
        upper = padded[low + (passed + 1)]
        np.copyto(upper, np.maximum(most, produced), where=low == longer)
        lower = np.maximum(padded[low + passed], produced)
        at *= upper - lower
        at += lower
        drawn = np.rint(at, out=at)
        if self._chosen is not None:
            np.copyto(drawn, self._lengths[self._chosen], where=produced == 0)
        remaining: NDArray[np.int64] = (np.minimum(drawn, most) - produced).astype(np.int64)
        return np.maximum(remaining, 0, out=remaining)
