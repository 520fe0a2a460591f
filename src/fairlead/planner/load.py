"""The load of every instance over time, small enough to travel inside a Summary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fairlead.simulate.timeline import Timeline, Track

SAMPLES = 160
"""Moments that a plot of a page's width can show apart, eight instances high."""


def load_series(timeline: Timeline) -> dict[str, Any]:
    """Series by instance, in the form that pages of plots read. Neighbouring samples of a run that
    took longer than expected are averaged."""
    return {name: _series(track) for name, track in timeline.tracks.items()}


def _series(track: Track) -> dict[str, list[float]]:
    every = -(-len(track.time_s) // SAMPLES) or 1
    return {
        "t_s": [round(t_s, 3) for t_s in track.time_s[::every]],
        "running": _means(track.running, every, 2),
        "waiting": _means(track.waiting, every, 2),
        "kv_fraction": _means(track.used_blocks, every, 4),
        "busy": _means(track.busy, every, 4),
    }


def _means(values: Sequence[float], every: int, digits: int) -> list[float]:
    groups = (values[start : start + every] for start in range(0, len(values), every))
    return [round(sum(group) / len(group), digits) for group in groups]
