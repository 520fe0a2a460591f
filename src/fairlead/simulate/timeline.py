"""How every instance was doing, at regular moments."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from fairlead.instance import Instance


@dataclass(slots=True)
class Track:
    """One instance over time; the lists grow together."""

    time_s: list[float] = field(default_factory=list)
    running: list[int] = field(default_factory=list)
    """Sequences in the batch."""
    waiting: list[int] = field(default_factory=list)
    used_blocks: list[float] = field(default_factory=list)
    """Share of the KV memory that sequences hold, 0 to 1."""
    busy: list[float] = field(default_factory=list)
    """Share of the time since the sample before that was spent in steps, 0 to 1."""


@dataclass(slots=True)
class Timeline:
    """Tracks by the name of their instance, in order of their start."""

    tracks: dict[str, Track] = field(default_factory=dict)


class Sampler:
    """Fills a timeline."""

    def __init__(self, timeline: Timeline, period_s: float) -> None:
        self.period_s = period_s
        self._tracks = timeline.tracks
        self._busy_s: dict[str, float] = {}

    def sample(self, instances: Iterable[Instance], now: float) -> None:
        for instance in instances:
            name, planner = instance.spec.id, instance.planner
            track = self._tracks.setdefault(name, Track())
            span_s = now - track.time_s[-1] if track.time_s else 0.0
            busy_s, before_s = instance.busy_by(now), self._busy_s.get(name, 0.0)
            self._busy_s[name] = busy_s
            # One that was restarted counts from nothing.
            busy_s -= before_s if before_s <= busy_s else 0.0
            track.time_s.append(now)
            track.running.append(planner.n_running)
            track.waiting.append(planner.n_waiting)
            track.used_blocks.append(planner.pool.n_used / planner.n_blocks)
            track.busy.append(min(busy_s / span_s, 1.0) if span_s > 0 else 0.0)
