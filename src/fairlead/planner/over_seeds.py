"""The same run with several seeds: the main figures, and how far they can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fairlead.planner.interval import Interval, interval

FIGURES: Mapping[str, tuple[str, ...]] = {
    "goodput_rps": ("goodput_rps",),
    "goodput_tokens_per_s": ("goodput_tokens_per_s",),
    "attainment": ("attainment",),
    "ttft_s_p50": ("ttft_s", "p50"),
    "ttft_s_p99": ("ttft_s", "p99"),
    "tpot_s_p50": ("tpot_s", "p50"),
    "tpot_s_p99": ("tpot_s", "p99"),
    "e2e_s_p99": ("e2e_s", "p99"),
    "prefix_hit_ratio": ("prefix_hit_ratio",),
}
"""What is followed over the seeds, and where it stands in a Summary."""


def over_seeds(seeds: Sequence[int], summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The main figures with their 95% intervals, and what each seed brought."""
    found: dict[str, Any] = {
        "seeds": list(seeds),
        "digests": [summary["digest"] for summary in summaries],
    }
    for name, keys in FIGURES.items():
        values = [_value(summary, keys) for summary in summaries]
        known = [value for value in values if value is not None]
        whole = interval(known) if known else None
        found[name] = {**_interval_json(whole), "values": values}
    return found


def _interval_json(found: Interval | None) -> dict[str, float | None]:
    return found.to_json() if found else {"mean": None, "half_width": None}


def _value(summary: Mapping[str, Any], keys: Sequence[str]) -> float | None:
    found: Any = summary
    for key in keys:
        found = found[key]
    value: float | None = found
    return value
