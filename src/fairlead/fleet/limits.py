"""How much the fleet holds, and how long it waits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of every queue and retry of the fleet."""

    max_queued: int = 1024
    """Requests that may wait in the fleet for an instance with room."""
    max_queued_s: float = 60.0
    """Longest such wait: past it a client has usually given up, and a place is better used."""
    max_deaths: int = 3
    """Instances that may die under one request before it is held to be the cause."""
    max_moves: int = 16
    """Times that one request is moved: a policy that cannot make up its mind must not keep it from
    being served."""
    lost_after_s: float = 2.0
    """A dispatch that reports do not show after this long was lost on the way. Must exceed the
    time a message may take."""
