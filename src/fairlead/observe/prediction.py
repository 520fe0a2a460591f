"""How far what the fleet predicted was from what happened."""

from __future__ import annotations

from typing import Protocol

from prometheus_client.core import HistogramMetricFamily

from fairlead.observe.histogram import Buckets

BOUNDS_S = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Predicted(Protocol):
    """A request of which something was predicted when it was first dispatched, from its arrival
    on; None of those of which nothing was."""

    @property
    def predicted_ttft_s(self) -> float | None: ...
    @property
    def predicted_e2e_s(self) -> float | None: ...


class PredictionErrors:
    """Absolute errors, those of predictions that were too long apart from those too short: the
    buckets of Prometheus know no sign."""

    def __init__(self) -> None:
        self._errors = {
            (of, was): Buckets(BOUNDS_S) for of in ("ttft", "e2e") for was in ("long", "short")
        }

    def add(self, of: str, predicted_s: float | None, took_s: float) -> None:
        """`of` is ttft or e2e; a prediction that was not made is no error."""
        if predicted_s is not None:
            was = "long" if predicted_s >= took_s else "short"
            self._errors[of, was].add(abs(predicted_s - took_s))

    def of(self, of: str) -> tuple[Buckets, Buckets]:
        """Errors of predictions that were too long, and of those too short."""
        return self._errors[of, "long"], self._errors[of, "short"]

    def collect(self) -> HistogramMetricFamily:
        family = HistogramMetricFamily(
            "fairlead_prediction_error_seconds",
            "Predicted at dispatch against what happened, of some requests",
            labels=["of", "was"],
        )
        for labels, errors in self._errors.items():
            family.add_metric(labels, errors.cumulative(), sum_value=errors.total)
        return family
