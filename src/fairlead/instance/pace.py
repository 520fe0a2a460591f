"""How an instance keeps up with its own latency model."""

from __future__ import annotations

MEMORY_STEPS = 32
"""Steps after which a measurement weighs a third of what it did: long enough to smooth one step
that the operating system interrupted, short enough to notice a throttled machine in seconds."""


class Slowdown:
    """Measured over predicted step time, lately: 1 where the model is right, 2 at half the speed.

    A ratio of decayed sums rather than a mean of ratios, so that long steps count for more and a
    single tiny one cannot upset it.
    """

    def __init__(self) -> None:
        self._keep = 1.0 - 1.0 / MEMORY_STEPS
        self._measured_s = 0.0
        self._predicted_s = 0.0
        self.ratio = 1.0
        """Asked for far more often than it changes."""

    def add(self, measured_s: float, predicted_s: float, n: int = 1) -> None:
        """One more step, or `n` alike; a step that the model prices at nothing says nothing."""
        if predicted_s <= 0:
            return
        keep, share = self._keep, 1.0
        if n > 1:
            keep = self._keep**n
            share = (1.0 - keep) / ((1.0 - self._keep) * n)
        self._measured_s = self._measured_s * keep + measured_s * share
        self._predicted_s = self._predicted_s * keep + predicted_s * share
        # To three digits, so that the rounding errors of a clock never decide anything.
        if self._measured_s > 0:
            self.ratio = max(round(self._measured_s / self._predicted_s, 3), 0.001)
