"""The instance that was sent the longest part of the prompt, unless load is out of balance.

Source: sgl-project/sglang, the router's policy `cache_aware`.
Rule:   where most − fewest requests > `balance_abs` and most > `balance_rel` · fewest: the fewest
        requests. Else the instance that was sent the longest prefix, if that is more than
        `cache_threshold` of the prompt; else the one with the smallest tree.

The tree is the router's own, of what it has routed; it is never told what an engine evicted.
Lengths are counted in blocks. Only instances that can take the request count, for load and for
matches, and of several that were sent as much the one with the fewest requests is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from fairlead.model import InstanceView, RequestView
from fairlead.policies.registry import routing
from fairlead.policies.routing.parts import fewest_requests, n_requests
from fairlead.policies.routing.sent_prefixes import SentPrefixes, blocks_of


@dataclass(frozen=True, slots=True)
class Params:
    cache_threshold: float = 0.5
    """Share of the prompt that must match, 0 to 1."""
    balance_abs: int = 32
    """Requests between the most and the least loaded beyond which load may be out of balance."""
    balance_rel: float = 1.1
    """And the factor between them."""
    tree_blocks: int = 1 << 20
    """Blocks that all trees together hold; those sent longest ago go first. The source holds
    2^26 characters for each instance, about as many blocks of 16 tokens."""

    def __post_init__(self) -> None:
        if not 0 <= self.cache_threshold <= 1:
            raise ValueError(f"cache_threshold must be from 0 to 1, got {self.cache_threshold}")
        if self.balance_abs < 0 or self.balance_rel < 0:
            raise ValueError("balance_abs and balance_rel must be at least 0")
        if self.tree_blocks < 1:
            raise ValueError(f"tree_blocks must be at least 1, got {self.tree_blocks}")


@routing("sglang-cache-aware", Params)
class SglangCacheAware:
    def __init__(self, params: Params, rng: Random) -> None:
        self._params = params
        self._rng = rng
        self._sent = SentPrefixes(params.tree_blocks)

    def rank(
        self, request: RequestView, candidates: Sequence[InstanceView], now: float
    ) -> list[InstanceView]:
        if not candidates:
            return []
        chosen = self._choose(request, candidates)
        self._sent.add(request, chosen.id)
        return [chosen]

    def _choose(self, request: RequestView, candidates: Sequence[InstanceView]) -> InstanceView:
        if self._out_of_balance(candidates):
            return fewest_requests(candidates, self._rng)
        matches = self._sent.matches(request)
        best = max(candidates, key=lambda view: (matches.get(view.id, 0), -n_requests(view)))
        if matches.get(best.id, 0) > self._params.cache_threshold * len(blocks_of(request)):
            return best
        tokens = self._sent.tokens
        return min(candidates, key=lambda view: (tokens.get(view.id, 0), n_requests(view), view.id))

    def _out_of_balance(self, candidates: Sequence[InstanceView]) -> bool:
        counts = [n_requests(view) for view in candidates]
        most, least = max(counts), min(counts)
        apart = most - least > self._params.balance_abs
        return apart and most > self._params.balance_rel * least
