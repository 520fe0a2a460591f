"""How well a model's prices agree with measured steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fairlead.latency.model import LatencyModel, StepShape

Point = tuple[StepShape, float]
"""A measured step: its shape, and the seconds it took."""


@dataclass(frozen=True, slots=True)
class FitError:
    """Relative error of predicted against measured durations, in per cent of the measured."""

    mean_abs_pct: float
    p95_abs_pct: float
    bias_pct: float
    """Mean of the signed error: above 0 where the model says too long."""
    n_points: int

    @classmethod
    def of(cls, pairs: Iterable[tuple[float, float]]) -> FitError:
        """The error of (predicted, measured) pairs, of which there must be one at least."""
        errors = [100.0 * (predicted / measured - 1.0) for predicted, measured in pairs]
        sizes = sorted(abs(error) for error in errors)
        n = len(sizes)
        # Nearest rank: the smallest error that 95% of the points do not exceed.
        p95 = sizes[-(-95 * n // 100) - 1]
        return cls(sum(sizes) / n, p95, sum(errors) / n, n)


def measure_error(model: LatencyModel, points: Sequence[Point]) -> FitError:
    """The error of `model` on `points`."""
    return FitError.of((model.step_s(shape), seconds) for shape, seconds in points)
