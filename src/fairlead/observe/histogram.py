"""Counts of values by bucket, as Prometheus wants them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence


class Buckets:
    """A histogram with fixed bounds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """The last holds what is over every bound."""
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        """Bound and how many are at most that, as Prometheus has them."""
        found, n = [], 0
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            n += count
            found.append((bound, float(n)))
        return found


def quantile(bounds: Sequence[float], counts: Sequence[int], q: float) -> float | None:
    """A value that the share `q` of what was counted does not exceed, as far as buckets tell:
    between the bounds of one it is assumed to lie evenly. None where nothing was counted; what is
    over every bound is given as the last."""
    wanted = q * sum(counts)
    if not wanted:
        return None
    low, n = 0.0, 0
    for bound, count in zip(bounds, counts, strict=False):
        if count and n + count >= wanted:
            return low + (bound - low) * (wanted - n) / count
        low, n = bound, n + count
    return bounds[-1]
