"""How fast something arrives, and how fast it will."""

from __future__ import annotations

from collections import deque
from math import exp, sqrt
from statistics import fmean

RECENT = 6
"""Buckets that the present rate is taken over."""
SURE = 3.0
"""Standard errors by which a slope must differ from none: noise is no trend."""


class Trend:
    """Amounts in buckets of equal length over a window; the line through them tells the future."""

    def __init__(self, window_s: float, bucket_s: float) -> None:
        self._bucket_s = bucket_s
        self._n = max(round(window_s / bucket_s), RECENT)
        self._amounts: deque[float] = deque(maxlen=self._n + 1)
        """The last is still being filled."""
        self._last = 0
        """Its number: buckets since time 0."""

    def add(self, now: float, amount: float) -> None:
        self._roll(now)
        self._amounts[-1] += amount

    def rate_per_s(self, now: float) -> float:
        """Of the last few full buckets."""
        self._roll(now)
        recent = list(self._amounts)[:-1][-RECENT:]
        if not recent:
            # The first bucket is not full yet; a rate of a moment would be anything.
            return self._amounts[-1] / self._bucket_s
        return fmean(recent) / self._bucket_s

    def forecast_per_s(self, now: float, ahead_s: float) -> float:
        """The rate so long from now if the trend goes on; where there is none, or it falls, the
        present rate."""
        rate = self.rate_per_s(now)
        full = list(self._amounts)[:-1]
        # A turn shows in the last third long before it does in all of it.
        for amounts in (full, full[-(self._n // 3) :]):
            if len(amounts) >= RECENT:
                ahead = self._into(now) + ahead_s / self._bucket_s
                rate = max(rate, _extended(amounts, ahead) / self._bucket_s)
        return rate

    def _into(self, now: float) -> float:
        """How far the last bucket has come."""
        return now / self._bucket_s - self._last

    def _roll(self, now: float) -> None:
        """Opens the bucket of the present; those that nothing fell into are empty."""
        number = int(now // self._bucket_s)
        if not self._amounts:
            self._last = number
            self._amounts.append(0.0)
        for _ in range(min(number - self._last, self._n + 1)):
            self._amounts.append(0.0)
        self._last = max(self._last, number)


def _extended(amounts: list[float], ahead: float) -> float:
    """Where the line through them is so many buckets after the last; 0 where none rises surely."""
    slope, error = _slope(amounts)
    if slope <= SURE * error:
        return 0.0
    return fmean(amounts) + slope * (len(amounts) / 2 + ahead)


def _slope(amounts: list[float]) -> tuple[float, float]:
    """The least-squares slope by bucket, and its standard error."""
    n, middle, mean = len(amounts), (len(amounts) - 1) / 2, fmean(amounts)
    spread = sum((i - middle) ** 2 for i in range(n))
    slope = sum((i - middle) * (y - mean) for i, y in enumerate(amounts)) / spread
    missed = sum((y - mean - slope * (i - middle)) ** 2 for i, y in enumerate(amounts))
    return slope, sqrt(missed / (n - 2) / spread)


class Smoothed:
    """A mean in which what is `over_s` old weighs a third of what is new."""

    def __init__(self, over_s: float) -> None:
        self._over_s = over_s
        self._at_s = 0.0
        self.value: float | None = None
        """None until something was added."""

    def add(self, now: float, value: float) -> float:
        if self.value is None:
            self.value = value
        else:
            kept = exp((self._at_s - now) / self._over_s)
            self.value = kept * self.value + (1 - kept) * value
        self._at_s = now
        return self.value
