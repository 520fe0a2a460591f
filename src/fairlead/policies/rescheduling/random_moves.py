"""Moves requests at random: the floor of every comparison, and what breaks hand-offs if anything.

Rule: each round, of so many requests drawn from all that do not move already, each goes to an
      instance drawn from the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from fairlead.model import HostView
from fairlead.policies.registry import rescheduling
from fairlead.policies.rescheduling.parts import Move


@dataclass(frozen=True, slots=True)
class Params:
    period_s: float = 1.0
    moves: int = 1
    """In each round."""

    def __post_init__(self) -> None:
        if self.period_s < 0 or self.moves < 0:
            raise ValueError("period_s and moves must be at least 0")


@rescheduling("random-moves", Params)
class RandomMoves:
    def __init__(self, params: Params, rng: Random) -> None:
        self.period_s = params.period_s
        self._moves = params.moves
        self._rng = rng

    def propose(self, hosts: Sequence[HostView], now: float) -> list[Move]:
        if len(hosts) < 2:
            return []
        placed = [
            (tracked.request.id, host)
            for host in hosts
            for tracked in (*host.decoding, *host.queue)
            if not tracked.is_moving
        ]
        drawn = self._rng.sample(placed, min(self._moves, len(placed)))
        return [
            Move(request, host.id, self._rng.choice([h.id for h in hosts if h is not host]))
            for request, host in drawn
        ]
