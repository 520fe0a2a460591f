"""What checks did, as Prometheus is shown it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from fairlead.observe.histogram import Buckets

OUTCOMES = ("allowed", "refused", "replaced", "late", "failed")
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class CheckFigures(Collector):
    """Counts by check and outcome, and how long verdicts take. Labels are the configured names."""

    def __init__(self, names: Sequence[str]) -> None:
        self._counts = {name: dict.fromkeys(OUTCOMES, 0) for name in names}
        self._times = {name: Buckets(BOUNDS_S) for name in names}

    def add(self, name: str, outcome: str, took_s: float) -> None:
        self._counts[name][outcome] += 1
        self._times[name].add(took_s)

    def collect(self) -> Iterator[Metric]:
        counts = CounterMetricFamily(
            "fairlead_checks", "Calls that a check has seen", labels=["check", "outcome"]
        )
        times = HistogramMetricFamily(
            "fairlead_check_seconds", "Until a check's verdict", labels=["check"]
        )
        for name, outcomes in self._counts.items():
            for outcome, n in outcomes.items():
                counts.add_metric([name, outcome], n)
            buckets = self._times[name]
            times.add_metric([name], buckets.cumulative(), sum_value=buckets.total)
        yield from (counts, times)
