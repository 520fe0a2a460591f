"""A pool's size is drawn: the floor of every comparison, and what breaks scaling if anything.

Rule: each round a number from the pool's least to its greatest.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from fairlead.model import RequestView
from fairlead.policies.registry import scaling
from fairlead.policies.scaling.parts import PoolView


@dataclass(frozen=True, slots=True)
class Params:
    period_s: float = 10.0

    def __post_init__(self) -> None:
        if self.period_s < 0:
            raise ValueError(f"period_s must be at least 0, got {self.period_s}")


@scaling("random-sizes", Params)
class RandomSizes:
    def __init__(self, params: Params, rng: Random) -> None:
        self.period_s = params.period_s
        self._rng = rng

    def arrived(self, request: RequestView, now: float) -> None:
        pass

    def desired(self, pool: PoolView, now: float) -> int:
        return self._rng.randint(pool.min_instances, pool.max_instances)
