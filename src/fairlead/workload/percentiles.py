"""Mean, median, tail: from samples that are held, or counted as they pass."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Percentiles:
    """A distribution in five figures; all None where nothing was measured."""

    mean: float | None = None
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    max: float | None = None

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Percentiles:
        """Exact figures of these samples, linear between neighbours; NaN is left out."""
        values = values[~np.isnan(values)]
        if not len(values):
            return NOT_MEASURED
        # The sum of sorted values does not depend on the order in which they came.
        ordered = np.sort(values)
        p50, p90, p99 = (_between(ordered, q) for q in (0.5, 0.9, 0.99))
        return cls(float(ordered.mean()), p50, p90, p99, float(ordered[-1]))

    def to_json(self) -> dict[str, float | None]:
        return {name: getattr(self, name) for name in ("mean", "p50", "p90", "p99", "max")}


def _between(ordered: NDArray[np.float64], q: float) -> float:
    """`numpy.quantile` of sorted samples, without its overhead: most groups are small."""
    place = q * (len(ordered) - 1)
    below = int(place)
    low = float(ordered[below])
    high = float(ordered[min(below + 1, len(ordered) - 1)])
    return low + (high - low) * (place - below)


NOT_MEASURED = Percentiles()


class Histogram:
    """Counts positive times in buckets half a percent wide: bounded memory for any number of
    samples, percentiles within 0.25%, mean and maximum exact."""

    WIDTH = math.log(1.005)
    LEAST_S = 1e-6
    """Everything below counts as this; 24 hours is bucket 5,047."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.n = 0
        self._sum = 0.0
        self._max = 0.0

    def add(self, value_s: float, n: int = 1) -> None:
        bucket = int(math.log(max(value_s, self.LEAST_S) / self.LEAST_S) / self.WIDTH)
        self._counts[bucket] = self._counts.get(bucket, 0) + n
        self.n += n
        self._sum += value_s * n
        if value_s > self._max:
            self._max = value_s

    def percentiles(self) -> Percentiles:
        if not self.n:
            return NOT_MEASURED
        p50, p90, p99 = (self.quantile(q) for q in (0.5, 0.9, 0.99))
        return Percentiles(self._sum / self.n, p50, p90, p99, self._max)

    def quantile(self, q: float) -> float:
        """The middle of the bucket that holds this share of the samples, at most the maximum."""
        wanted = q * self.n
        seen = 0
        bucket = 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen >= wanted:
                break
        return min(self.LEAST_S * math.exp((bucket + 0.5) * self.WIDTH), self._max)
