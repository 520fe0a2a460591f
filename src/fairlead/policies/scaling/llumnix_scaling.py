"""The average freeness of a pool is kept between two bounds.

Paper: "Llumnix: Dynamic Scheduling for Large Language Model Serving".
Rule:  while the average is below `up_freeness`, add instances, counted as empty ones, until it is
       not. Remove one, that with the fewest running sequences, if the average of the others is
       above `down_freeness`.

Freeness is in `policies/freeness.py`; what an instance leaves behind is handed off, which
`llumnix` among the rescheduling policies does. Ours: requests that wait in the fleet for room call
for an instance too, and a pool where nothing happened for `idle_s` may lose its last one.

Limit: memory is all that it looks at. Instances that run out of time before they run out of memory
look free, and are removed.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from statistics import fmean

from fairlead.model import HostView, RequestView
from fairlead.policies.freeness import BLOCK_TOKENS, HighPriority, freeness
from fairlead.policies.registry import scaling
from fairlead.policies.scaling.load import in_flight, size
from fairlead.policies.scaling.parts import PoolView


@dataclass(frozen=True, slots=True)
class Params:
    period_s: float = 10.0
    up_freeness: float = 10.0
    """Blocks of 16 tokens for each sequence."""
    down_freeness: float = 60.0
    high_priority: int = -1
    """Requests of this priority or a lower number get headroom."""
    high_load_fraction: float = 0.12
    """Of its memory, what an instance should hold while one of them runs there."""
    idle_s: float = 60.0
    """After so long without a request the last instance may go."""

    def __post_init__(self) -> None:
        if self.period_s <= 0 or self.idle_s < 0:
            raise ValueError("period_s must be positive and idle_s at least 0")
        if not 0 <= self.up_freeness < self.down_freeness:
            raise ValueError("up_freeness must be at least 0 and below down_freeness")
        if not 0 <= self.high_load_fraction <= 1:
            raise ValueError("high_load_fraction must be between 0 and 1")


@scaling("llumnix-scaling", Params)
class LlumnixScaling:
    def __init__(self, params: Params, rng: Random) -> None:
        self.period_s = params.period_s
        self._params = params
        self._high = HighPriority(params.high_priority, params.high_load_fraction)
        self._busy_s: float | None = None
        """When there was last a request."""

    def arrived(self, request: RequestView, now: float) -> None:
        self._busy_s = now

    def desired(self, pool: PoolView, now: float) -> int:
        if self._busy_s is None or in_flight(pool):
            self._busy_s = now
        if not pool.hosts:
            return max(pool.n_starting, 1 if pool.n_queued else 0)
        missing = self._missing(pool)
        if missing or pool.n_starting:
            return size(pool) + missing
        return size(pool) - self._too_many(pool, now)

    def _missing(self, pool: PoolView) -> int:
        """Empty instances, beside those that start, until the average is high enough."""
        known = [freeness(host, self._high) for host in pool.hosts]
        empty = fmean(_blocks(host) for host in pool.hosts)
        total, n = sum(known) + empty * pool.n_starting, size(pool)
        missing = 0
        # An instance that is as free as it can be and still below the bound helps no average.
        bound = self._params.up_freeness
        while empty > bound and total < bound * n and n < pool.max_instances:
            total, n, missing = total + empty, n + 1, missing + 1
        waits_unanswered = pool.n_queued > 0 and not pool.n_starting
        return max(missing, 1 if waits_unanswered else 0)

    def _too_many(self, pool: PoolView, now: float) -> int:
        assert self._busy_s is not None
        if pool.n_queued:
            return 0
        victim = min(pool.hosts, key=lambda host: (host.running, host.waiting, host.id))
        rest = [freeness(host, self._high) for host in pool.hosts if host is not victim]
        if not rest:
            return 1 if now - self._busy_s >= self._params.idle_s else 0
        return 1 if fmean(rest) > self._params.down_freeness else 0


def _blocks(host: HostView) -> float:
    """The freeness of an empty instance."""
    return host.total_blocks * host.block_tokens / BLOCK_TOKENS
