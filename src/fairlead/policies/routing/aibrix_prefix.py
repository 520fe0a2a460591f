"""The longest prefix among the instances that are not much busier than the others.

Source: vllm-project/aibrix, the gateway's policy `prefix-cache`; the defaults are the code's.
Rule:   where most − fewest requests > `imbalance`: the fewest requests. Else, of the instances that
        were sent some of the prompt and have at most mean + `deviations`·σ requests, the one that
        was sent the most of it, and of equals the one with fewer requests. None: the fewest.

The index is of what was routed, as without the source's optional synchronisation with the engines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from random import Random

from fairlead.model import InstanceView, RequestView
from fairlead.policies.registry import routing
from fairlead.policies.routing.parts import fewest_requests, n_requests
from fairlead.policies.routing.sent_prefixes import SentPrefixes


@dataclass(frozen=True, slots=True)
class Params:
    imbalance: int = 8
    """A: requests between the most and the least loaded beyond which prefixes are ignored."""
    deviations: float = 1.0
    """k: standard deviations above the mean that a holder of the prefix may be loaded."""
    index_blocks: int = 200_000
    """Blocks that the index holds; those sent longest ago go first."""

    def __post_init__(self) -> None:
        if self.imbalance < 0 or self.deviations < 0:
            raise ValueError("imbalance and deviations must be at least 0")
        if self.index_blocks < 1:
            raise ValueError(f"index_blocks must be at least 1, got {self.index_blocks}")


@routing("aibrix-prefix", Params)
class AibrixPrefix:
    def __init__(self, params: Params, rng: Random) -> None:
        self._params = params
        self._rng = rng
        self._sent = SentPrefixes(params.index_blocks)

    def rank(
        self, request: RequestView, candidates: Sequence[InstanceView], now: float
    ) -> list[InstanceView]:
        if not candidates:
            return []
        chosen = self._holder(request, candidates) or fewest_requests(candidates, self._rng)
        if request.block_hashes:
            self._sent.add(request, chosen.id)
        return [chosen]

    def _holder(
        self, request: RequestView, candidates: Sequence[InstanceView]
    ) -> InstanceView | None:
        """Who was sent the most of it and is not too busy."""
        counts = [n_requests(view) for view in candidates]
        if not request.block_hashes or max(counts) - min(counts) > self._params.imbalance:
            return None
        matches = self._sent.matches(request)
        limit = self._busy(counts)
        holders = [v for v in candidates if v.id in matches and n_requests(v) <= limit]
        return max(holders, key=lambda view: (matches[view.id], -n_requests(view)), default=None)

    def _busy(self, counts: Sequence[int]) -> float:
        mean = sum(counts) / len(counts)
        variance = sum((count - mean) ** 2 for count in counts) / len(counts)
        return mean + self._params.deviations * sqrt(variance)
