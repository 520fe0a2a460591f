"""Two instances for each prefix: the one with the cache, until its first token would be late.

Paper: "DualMap: Enabling Both Cache Affinity and Load Balancing for Distributed LLM Serving".
Rule:  two hashes of the prompt's prefix name two instances on a ring. Where both have as much of
       the prompt cached, the one with less prefill queued; else the one with more cached if its
       predicted TTFT keeps the promise, and if not the one with less prefill queued.
       The prefix is as long as it takes for the two to bear its load: longer while more than 2/n
       of the recent requests begin with it, until fewer than 1/n do, for n instances.

A prompt without a full block has no prefix: its two instances are drawn by its own name. TTFT is
the fleet's prediction where the paper multiplies queued tokens by a constant measured on its
hardware. Moving requests that wait on a hot spot is rescheduling (`hotspot`). The later addition
of a label for KV load is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from fairlead.model import InstanceView, RequestView
from fairlead.policies.registry import routing
from fairlead.policies.routing.hot_prefixes import HotPrefixes
from fairlead.policies.routing.ring import Ring, own_key


@dataclass(frozen=True, slots=True)
class Params:
    ttft_s: float = 5.0
    """Time to the first token to be kept where the request is promised none."""
    level_blocks: int = 32
    """Blocks by which a prefix grows: 512 tokens in blocks of 16."""
    min_levels: int = 2
    """Shortest prefix, in levels; a shorter prompt is placed by all its full blocks."""
    window: int = 1024
    """Recent requests over which the share of a prefix is taken. The paper's is not known."""
    points: int = 64
    """Places of each instance on the ring."""

    def __post_init__(self) -> None:
        if self.ttft_s <= 0:
            raise ValueError(f"ttft_s must be positive, got {self.ttft_s}")
        if min(self.level_blocks, self.min_levels, self.window, self.points) < 1:
            raise ValueError("level_blocks, min_levels, window and points must be at least 1")


@routing("dualmap", Params)
class DualMap:
    def __init__(self, params: Params, rng: Random) -> None:
        self._params = params
        self._ring = Ring(params.points)
        self._hot = HotPrefixes(params.window)

    def rank(
        self, request: RequestView, candidates: Sequence[InstanceView], now: float
    ) -> list[InstanceView]:
        if len(candidates) < 2:
            return list(candidates)
        pair = self._pair(self._key(request, len(candidates)), candidates)
        cached = {view.id: view.cached_tokens(request) for view in pair}
        holder, other = sorted(pair, key=lambda view: -cached[view.id])
        if cached[holder.id] > cached[other.id] and self._in_time(request, holder, now):
            return [holder, other]
        return sorted(pair, key=lambda view: view.queued_tokens)

    def _pair(self, key: bytes, candidates: Sequence[InstanceView]) -> list[InstanceView]:
        """The two that the key stands for; where both hashes name one, the next takes its place."""
        self._ring.show(candidates)
        first = next(self._ring.walk(key, b"first"))
        return [first, next(view for view in self._ring.walk(key, b"second") if view is not first)]

    def _key(self, request: RequestView, n_instances: int) -> bytes:
        names = request.block_hashes
        if not names:
            return own_key(request)
        level = self._params.level_blocks
        path = names[self._params.min_levels * level - 1 :: level] or names[-1:]
        return self._hot.key(path, n_instances)

    def _in_time(self, request: RequestView, view: InstanceView, now: float) -> bool:
        promised_s = request.objective.ttft_s or self._params.ttft_s
        return now - request.arrival_s + view.predicted_ttft_s(request) <= promised_s
