"""Goodput and attainment of each objective class: the last minutes bin by bin, and percentiles."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from fairlead.observe.metrics import ClassFigures, Metrics
from fairlead.observe.window.lately import MARK_EVERY_S, LatelyCounted

BIN_S = 2.0
BINS = 300
"""Ten minutes."""
MOST_CLASSES = 32
"""Classes are named in the fleet file; nobody reads more of them than this side by side."""
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
DIGITS = 4

Counts = tuple[int, int]
Bin = tuple[float, dict[str, Counts]]


class Classes:
    """Reads the counters of the metrics whenever time has passed."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._lately: dict[str, dict[str, LatelyCounted]] = {}
        self._before: dict[str, Counts] = {}
        self._bins: deque[Bin] = deque(maxlen=BINS)
        self._bin_s: float | None = None
        """When the present bin began."""
        self._marked_s = 0.0

    def pass_time(self, now: float) -> None:
        """To be called every second or so."""
        for name, figures in self._present().items():
            if name not in self._lately:
                self._lately[name] = {
                    field: LatelyCounted(getattr(figures, field)) for field in ("ttft", "tpot")
                }
        if self._bin_s is None:
            self._bin_s = self._marked_s = now
        elif now - self._bin_s >= BIN_S:
            self._bins.append((round(now, 3), self._fresh()))
            self._bin_s = now
        if now - self._marked_s >= MARK_EVERY_S:
            self._marked_s = now
            for lately in self._lately.values():
                for counted in lately.values():
                    counted.mark()

    def figures(self) -> dict[str, dict[str, Any]]:
        """Of each class: how its requests ended since the beginning, and its last minute."""
        return {
            name: {
                "met": figures.met,
                "missed": figures.missed,
                "outcomes": dict(figures.outcomes),
                **{
                    f"{field}_s": {p: _rounded(counted.quantile(q)) for p, q in QUANTILES.items()}
                    for field, counted in self._lately.get(name, {}).items()
                },
            }
            for name, figures in self._present().items()
        }

    def bins(self) -> list[Bin]:
        """When each ended, and how many requests met and missed their objective in it, by class;
        classes of which none ended are left out."""
        return list(self._bins)

    def _present(self) -> Mapping[str, ClassFigures]:
        names = list(self._metrics.classes)[:MOST_CLASSES]
        return {name: self._metrics.classes[name] for name in names}

    def _fresh(self) -> dict[str, Counts]:
        found: dict[str, Counts] = {}
        for name, figures in self._present().items():
            met, missed = self._before.get(name, (0, 0))
            if (figures.met, figures.missed) != (met, missed):
                found[name] = (figures.met - met, figures.missed - missed)
                self._before[name] = (figures.met, figures.missed)
        return found


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)
