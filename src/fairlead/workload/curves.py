"""What a page of plots needs of a run, small enough to travel inside its Summary."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairlead.workload.records import Columns

MAX_BINS = 240
"""Bins over time: more than a plot of a page's width can show apart."""
QUANTILES = 201
BIN_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 600, 1800, 3600, 21600, 86400)


class LoadSample(NamedTuple):
    """One instance at one moment."""

    t_s: float
    instance: str
    running: float
    waiting: float
    kv_fraction: float | None


def curves(columns: Columns, load: Iterable[LoadSample] = ()) -> dict[str, Any]:
    """Arrivals and goodput over time, the distributions of TTFT and TPOT by objective class, and
    the load of each instance: a JSON object.

    Goodput stands at the arrival of the request that met its objective, so the gap between the two
    curves is what was missed of what came at that time.
    """
    start_s = float(columns.arrival_s.min()) if len(columns) else 0.0
    since_s = columns.arrival_s - start_s
    bin_s = _bin_s(float(since_s.max()) if len(columns) else 0.0)
    met = columns.met
    return {
        "bin_s": bin_s,
        "arrivals_rps": _rate(since_s, bin_s),
        "goodput_rps": _rate(since_s[met], bin_s, float(since_s.max()) if len(columns) else 0.0),
        "classes": _distributions(columns),
        "load": _load(load),
    }


def _bin_s(span_s: float) -> float:
    wanted = max(span_s / 60, 1.0) if span_s > 60 else span_s / 30
    return next((step for step in BIN_STEPS_S if step >= wanted), wanted)


def _rate(since_s: NDArray[np.float64], bin_s: float, span_s: float | None = None) -> list[float]:
    if span_s is None:
        span_s = float(since_s.max()) if len(since_s) else 0.0
    n_bins = min(int(span_s / bin_s) + 1, 10 * MAX_BINS)
    places = np.minimum((since_s / bin_s).astype(np.int64), n_bins - 1)
    counts = np.bincount(places, minlength=n_bins)
    return [round(float(n) / bin_s, 6) for n in counts]


def _distributions(columns: Columns) -> dict[str, Any]:
    classes: dict[str, Any] = {}
    for place in np.argsort([o.name for o in columns.objectives], kind="stable"):
        objective = columns.objectives[int(place)]
        mine = columns.objective == place
        if not mine.any():
            continue
        classes[objective.name] = {
            "objective": {
                "ttft_s": objective.ttft_s,
                "tpot_s": objective.tpot_s,
                "deadline_s": objective.deadline_s,
            },
            "total": int(mine.sum()),
            "ttft_s": _quantiles(columns.ttft_s[mine]),
            "tpot_s": _quantiles(columns.tpot_s[mine]),
            "e2e_s": _quantiles(columns.e2e_s[mine]),
        }
    return classes


def _quantiles(values: NDArray[np.float64]) -> dict[str, Any]:
    """Evenly spaced quantiles of what was measured, and how many that were."""
    values = values[~np.isnan(values)]
    if not len(values):
        return {"n": 0, "quantiles": []}
    n = min(QUANTILES, max(len(values), 2))
    points = np.quantile(values, np.linspace(0, 1, n))
    return {"n": len(values), "quantiles": [round(float(point), 6) for point in points]}


def _load(samples: Iterable[LoadSample]) -> dict[str, Any]:
    """Series by instance, thinned to what a plot can show."""
    by_instance: dict[str, list[LoadSample]] = {}
    for sample in samples:
        by_instance.setdefault(sample.instance, []).append(sample)
    series = {}
    for name in sorted(by_instance):
        mine = by_instance[name]
        mine = mine[:: -(-len(mine) // MAX_BINS)]
        series[name] = {
            "t_s": [round(sample.t_s, 3) for sample in mine],
            "running": [sample.running for sample in mine],
            "waiting": [sample.waiting for sample in mine],
            "kv_fraction": [sample.kv_fraction for sample in mine],
        }
    return series
