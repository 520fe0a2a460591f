"""Mean, median, tail: from samples that are held, or counted as they pass."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

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

    def __reduce__(self) -> tuple[Any, ...]:
        """By its figures: a frozen class that is compiled cannot be filled from outside."""
        return Percentiles, (self.mean, self.p50, self.p90, self.p99, self.max)

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
    """Counts times in buckets half a percent wide: bounded memory for any number of samples,
    percentiles within 0.25%, mean and maximum exact. Times below zero (errors) have buckets too."""

    WIDTH = math.log(1.005)
    LEAST_S = 1e-6
    """Everything nearer to 0 counts as this; 24 hours is bucket 5,048."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.n = 0
        self._sum = 0.0
        self._max = -math.inf

    def add(self, value_s: float, n: int = 1) -> None:
        size_s = value_s if value_s >= 0 else -value_s
        bucket = 1
        if size_s > self.LEAST_S:
            bucket += int(math.log(size_s / self.LEAST_S) / self.WIDTH)
        if value_s < 0:
            bucket = -bucket
        self._counts[bucket] = self._counts.get(bucket, 0) + n
        self.n += n
        self._sum += value_s * n
        if value_s > self._max:
            self._max = value_s

    def add_all(self, values_s: NDArray[np.float64]) -> None:
        """Many at once; NaN is left out."""
        values_s = values_s[~np.isnan(values_s)]
        if not len(values_s):
            return
        sizes = np.maximum(np.abs(values_s), self.LEAST_S) / self.LEAST_S
        buckets = 1 + (np.log(sizes) / self.WIDTH).astype(np.int64)
        found, counts = np.unique(np.where(values_s < 0, -buckets, buckets), return_counts=True)
        for bucket, count in zip(found.tolist(), counts.tolist(), strict=True):
            self._counts[bucket] = self._counts.get(bucket, 0) + count
        self.n += len(values_s)
        self._sum += float(values_s.sum())
        self._max = max(self._max, float(values_s.max()))

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
        middle_s = self.LEAST_S * math.exp((abs(bucket) - 0.5) * self.WIDTH)
        return min(middle_s if bucket > 0 else -middle_s, self._max)


class Distribution:
    """Samples in arrays as long as they are few, and then a histogram."""

    def __init__(self, exact: int) -> None:
        """`exact` is the most samples that are held."""
        self._exact = exact
        self._parts: list[NDArray[np.float64]] = []
        self._n = 0
        self._histogram: Histogram | None = None

    def add(self, values_s: NDArray[np.float64]) -> None:
        """NaN is left out."""
        if self._histogram is not None:
            self._histogram.add_all(values_s)
            return
        self._parts.append(values_s)
        self._n += len(values_s)
        if self._n > self._exact:
            self._histogram = Histogram()
            for part in self._parts:
                self._histogram.add_all(part)
            self._parts.clear()

    def percentiles(self) -> Percentiles:
        if self._histogram is not None:
            return self._histogram.percentiles()
        return Percentiles.of(np.concatenate(self._parts)) if self._parts else NOT_MEASURED
