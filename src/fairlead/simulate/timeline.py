"""How every instance was doing, at regular moments."""

from __future__ import annotations

from dataclasses import dataclass, field


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
