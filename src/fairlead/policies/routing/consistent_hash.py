"""Equal beginnings to the same instance, as long as it has no more than its share of the load.

Paper: Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2018.
Rule:  the first instance clockwise from the key whose requests, this one included, are at most
       `factor` times the mean, rounded up. The key is the request's program; without one the first
       `prefix_blocks` of its prompt; without a full block it is the request's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from random import Random

from fairlead.model import InstanceView, RequestView
from fairlead.policies.registry import routing
from fairlead.policies.routing.parts import n_requests
from fairlead.policies.routing.ring import Ring, own_key


@dataclass(frozen=True, slots=True)
class Params:
    factor: float = 1.25
    """Most load of an instance, as a factor of the mean; above 1. What the paper's authors and
    most load balancers use."""
    prefix_blocks: int = 64
    """Leading blocks of the prompt that make the key: 1,024 tokens in blocks of 16. Fewer send all
    who share a system prompt the same way."""
    points: int = 64
    """Places of each instance on the ring; more spread keys more evenly."""

    def __post_init__(self) -> None:
        if self.factor <= 1:
            raise ValueError(f"factor must be above 1, got {self.factor}")
        if self.prefix_blocks < 1 or self.points < 1:
            raise ValueError("prefix_blocks and points must be at least 1")


@routing("consistent-hash", Params)
class ConsistentHash:
    def __init__(self, params: Params, rng: Random) -> None:
        self._params = params
        self._ring = Ring(params.points)

    def rank(
        self, request: RequestView, candidates: Sequence[InstanceView], now: float
    ) -> list[InstanceView]:
        load = sum(map(n_requests, candidates)) + 1
        most = ceil(self._params.factor * load / max(len(candidates), 1))
        for view in self._ring.clockwise(self._key(request), candidates):
            if n_requests(view) < most:
                return [view]
        return []  # Nobody is there: of several, one is at most at the mean.

    def _key(self, request: RequestView) -> bytes:
        if request.program is not None:
            return request.program.encode()
        prefix = request.block_hashes[: self._params.prefix_blocks]
        return prefix[-1] if prefix else own_key(request)
