"""Counts that a description keeps while a trace streams by, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from fairlead.workload.columns import Floats, Ints
from fairlead.workload.row import IdRuns

MOST_BINS = 4096
"""Bins of `RateBins`, before two become one."""
EXACT_BELOW = 1 << 20
"""Lengths up to here are counted one by one: eight megabytes."""


class LengthCounts:
    """How often each length was seen: exact figures of any number of samples."""

    def __init__(self) -> None:
        self._counts: Ints = np.zeros(1, dtype=np.int64)
        self._longer: Counter[int] = Counter()
        """Those of at least `EXACT_BELOW`, of which there are few."""
        self.n = 0
        self.total = 0

    def add(self, lengths: Ints) -> None:
        self.n += len(lengths)
        self.total += int(lengths.sum())
        long = lengths >= EXACT_BELOW
        if long.any():
            self._longer.update(lengths[long].tolist())
            lengths = lengths[~long]
        counts = np.bincount(lengths, minlength=len(self._counts))
        counts[: len(self._counts)] += self._counts
        self._counts = counts

    @property
    def mean(self) -> float | None:
        return self.total / self.n if self.n else None

    def quantile(self, q: float) -> int | None:
        """The smallest length that at least this share does not exceed."""
        if not self.n:
            return None
        values, counts = self._seen()
        return int(values[np.searchsorted(np.cumsum(counts), q * self.n)])

    def bins(self, edges: Sequence[float]) -> list[int]:
        """How many lie between one edge and the next; all beyond the last are in the last bin."""
        values, counts = self._seen()
        places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 1)
        return [int(n) for n in np.bincount(places, counts, minlength=len(edges))]

    def _seen(self) -> tuple[Ints, Ints]:
        values = np.flatnonzero(self._counts)
        longer = sorted(self._longer)
        return (
            np.concatenate([values, np.array(longer, dtype=np.int64)]),
            np.concatenate(
                [self._counts[values], np.array([self._longer[x] for x in longer], dtype=np.int64)]
            ),
        )


class RateBins:
    """Arrivals over time, in bins that widen as the trace goes on."""

    def __init__(self) -> None:
        self.width_s = 0.25
        self._counts: Ints = np.zeros(MOST_BINS, dtype=np.int64)

    def add(self, since_s: Floats) -> None:
        """Times since the first arrival, in order."""
        while since_s[-1] >= self.width_s * MOST_BINS:
            self._counts[: MOST_BINS // 2] = self._counts.reshape(-1, 2).sum(axis=1)
            self._counts[MOST_BINS // 2 :] = 0
            self.width_s *= 2
        places = (since_s / self.width_s).astype(np.int64)
        self._counts += np.bincount(places, minlength=MOST_BINS)

    def rates(self, span_s: float, n: int) -> list[float]:
        """Arrivals per second in `n` equal parts of the span, or in fewer where bins are wider."""
        n_bins = max(int(span_s / self.width_s), 1)
        edges = np.unique(np.linspace(0, n_bins, n + 1).astype(np.int64))
        sums = np.add.reduceat(self._counts[:n_bins], edges[:-1])
        return [float(rate) for rate in sums / (np.diff(edges) * self.width_s)]


class Busiest:
    """The most arrivals in any period of one length, counted from the first arrival."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._place = 0
        self._open = 0
        self.most = 0

    def add(self, since_s: Floats) -> None:
        places = (since_s / self._period_s).astype(np.int64)
        found, counts = np.unique(places, return_counts=True)
        if found[0] == self._place:
            counts[0] += self._open
        self.most = max(self.most, int(counts.max()))
        self._place, self._open = int(found[-1]), int(counts[-1])


class Gaps:
    """Mean and spread of the gaps between arrivals."""

    def __init__(self) -> None:
        self._n = 0
        self._mean = 0.0
        self._squares = 0.0
        """Sum of squared distances from the mean."""
        self._last_s: float | None = None

    def add(self, since_s: Floats) -> None:
        times = since_s if self._last_s is None else np.concatenate([[self._last_s], since_s])
        self._last_s = float(since_s[-1])
        gaps = np.diff(times)
        if not len(gaps):
            return
        # Chan, Golub, LeVeque, "Updating Formulae and a Pairwise Algorithm ...", 1979.
        n, mean = len(gaps), float(gaps.mean())
        off = mean - self._mean
        both = self._n + n
        self._squares += float(((gaps - mean) ** 2).sum()) + off * off * self._n * n / both
        self._mean += off * n / both
        self._n = both

    @property
    def cv(self) -> float | None:
        """Standard deviation over mean; 1 for Poisson arrivals."""
        if self._n < 2 or self._mean <= 0:
            return None
        return float((self._squares / self._n) ** 0.5 / self._mean)


class Reuse:
    """How many prefix blocks an earlier request had already: the hits of a cache that never evicts.

    Memory grows with the different ids, a bit and more each where they are small numbers."""

    DENSE_BELOW = 1 << 28
    """Ids below are marked in one array; others are kept in a set."""

    def __init__(self) -> None:
        self.blocks = 0
        self.reusable = 0
        self._dense = np.zeros(1024, dtype=np.bool_)
        self._sparse: set[int] = set()

    def add(self, ids: Sequence[int]) -> int:
        """The ids of one request; returns how many blocks, from its first, were there before."""
        if not len(ids):
            return 0
        reusable = self._seen_before(_as_array(ids))
        self.blocks += len(ids)
        self.reusable += reusable
        return reusable

    def _seen_before(self, ids: Ints) -> int:
        """How many of the first ids were seen before; all are from now on."""
        if ids.min() < 0 or ids.max() >= self.DENSE_BELOW:
            return self._seen_before_sparse(ids.tolist())
        if (most := int(ids.max())) >= len(self._dense):
            wider = np.zeros(max(most + 1, 2 * len(self._dense)), dtype=np.bool_)
            wider[: len(self._dense)] = self._dense
            self._dense = wider
        seen = self._dense[ids]
        self._dense[ids] = True
        return len(ids) if seen.all() else int(seen.argmin())

    def _seen_before_sparse(self, ids: list[int]) -> int:
        n = next((n for n, id in enumerate(ids) if id not in self._sparse), len(ids))
        self._sparse.update(ids[n:])
        return n


def _as_array(ids: Sequence[int]) -> Ints:
    if isinstance(ids, IdRuns):
        return np.concatenate([np.arange(run.start, run.stop) for run in ids.runs])
    try:
        return np.array(ids, dtype=np.int64)
    except OverflowError:  # 64 bits without a sign
        return np.array([id & (2**64 - 1) for id in ids], dtype=np.uint64).astype(np.int64)
