"""A pool keeps the instances that it was given.

Rule: as many as there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from fairlead.model import RequestView
from fairlead.policies.registry import scaling
from fairlead.policies.scaling.parts import PoolView


@dataclass(frozen=True, slots=True)
class Params:
    pass


@scaling("none", Params)
class NoScaling:
    period_s = float("inf")

    def __init__(self, params: Params, rng: Random) -> None:
        pass

    def arrived(self, request: RequestView, now: float) -> None:
        pass

    def desired(self, pool: PoolView, now: float) -> int:
        return len(pool.hosts) + pool.n_starting
