"""The last minute of figures that are counted since the beginning."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from fairlead.observe.histogram import Buckets, quantile

MARK_EVERY_S = 5.0
MARKS = 12
"""So many of them make the minute."""


class LatelyCounted:
    """What was added to histograms with equal bounds in the last minute, all of them together."""

    def __init__(self, *histograms: Buckets) -> None:
        self._histograms = histograms
        self._marks: deque[list[int]] = deque([[0] * len(histograms[0].counts)], maxlen=MARKS)

    def mark(self) -> None:
        """To be called every `MARK_EVERY_S`."""
        self._marks.append(self._now())

    def n(self) -> int:
        return sum(self._counts())

    def quantile(self, q: float) -> float | None:
        return quantile(self._histograms[0].bounds, self._counts(), q)

    def _counts(self) -> Sequence[int]:
        return [now - then for now, then in zip(self._now(), self._marks[0], strict=True)]

    def _now(self) -> list[int]:
        return [sum(counts) for counts in zip(*(h.counts for h in self._histograms), strict=True)]


class Rates:
    """How fast counters grew in the last few seconds."""

    def __init__(self, samples: int = 10) -> None:
        self._samples: deque[tuple[float, Sequence[float]]] = deque(maxlen=samples)

    def add(self, now: float, counts: Sequence[float]) -> None:
        self._samples.append((now, counts))

    def per_s(self) -> list[float]:
        """One for each counter; nothing before two samples."""
        if len(self._samples) < 2:
            return []
        (begun_s, first), (now, last) = self._samples[0], self._samples[-1]
        span_s = max(now - begun_s, 1e-9)
        return [(b - a) / span_s for a, b in zip(first, last, strict=True)]
