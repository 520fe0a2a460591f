"""So many instances that each has a target number of requests.

Source: the HorizontalPodAutoscaler of Kubernetes; from nothing to something as in KEDA.
Rule:   want = ceil(requests running and waiting / target), unless requests per instance are within
        `tolerance` of the target. Up at most by `up_factor` or `up_instances` in a period,
        whichever is more; down only to the highest want of the last `down_window_s`.

The target is ours: neither project knows LLMs. Their users are advised to count requests or tokens,
never to look at how busy a GPU is.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from random import Random

from fairlead.model import RequestView
from fairlead.policies.registry import scaling
from fairlead.policies.scaling.highest import Highest
from fairlead.policies.scaling.load import in_flight, size
from fairlead.policies.scaling.parts import PoolView


@dataclass(frozen=True, slots=True)
class Params:
    period_s: float = 15.0
    target: float = 32.0
    """Requests, running or waiting, for each instance."""
    tolerance: float = 0.1
    """How far requests per instance may be from the target, as a fraction of it."""
    up_factor: float = 2.0
    """Most instances after a period, as a multiple of those before."""
    up_instances: int = 4
    """Instances that may be added in a period in any case."""
    down_window_s: float = 300.0

    def __post_init__(self) -> None:
        if self.period_s <= 0 or self.target <= 0:
            raise ValueError("period_s and target must be positive")
        if self.tolerance < 0 or self.down_window_s < 0:
            raise ValueError("tolerance and down_window_s must be at least 0")
        if self.up_factor < 1 or self.up_instances < 1:
            raise ValueError("up_factor and up_instances must be at least 1")


@scaling("queue-based", Params)
class QueueBased:
    def __init__(self, params: Params, rng: Random) -> None:
        self.period_s = params.period_s
        self._params = params
        self._wants = Highest(params.down_window_s)

    def arrived(self, request: RequestView, now: float) -> None:
        pass

    def desired(self, pool: PoolView, now: float) -> int:
        n = size(pool)
        return self._wants.settle(now, min(self._want(pool, n), self._most(n)), n)

    def _want(self, pool: PoolView, n: int) -> int:
        requests, params = in_flight(pool), self._params
        fitting = n * params.target
        if n and abs(requests - fitting) <= params.tolerance * fitting:
            return n
        return ceil(requests / params.target)

    def _most(self, n: int) -> int:
        return max(ceil(self._params.up_factor * n), n + self._params.up_instances)
