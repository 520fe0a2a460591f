"""Prefill still to be done against KV already in use, in one sum.

Source: ai-dynamo/dynamo, the KV router.
Rule:   lowest ω·(prompt tokens to compute there, the queued ones included) + (tokens of context
        there if the request were placed). With a temperature τ it is drawn instead, with weights
        exp(−cost/τ), costs scaled to [0, 1] over the candidates.

Counted in tokens where the source counts blocks: the same ratio. A prefix that running requests
share counts for each of them, where the source counts its blocks once: no view tells. Its busy
filter is off by default and left out, and so are its replicas: there is one router.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from random import Random

from fairlead.model import InstanceView, RequestView
from fairlead.policies.registry import routing
from fairlead.policies.routing.parts import lowest


@dataclass(frozen=True, slots=True)
class Params:
    overlap_weight: float = 1.0
    """ω: what a token to compute costs against a token to hold; 0 ignores caches."""
    temperature: float = 0.0
    """τ: 0 takes the lowest cost, higher spreads requests."""

    def __post_init__(self) -> None:
        if self.overlap_weight < 0 or self.temperature < 0:
            raise ValueError("overlap_weight and temperature must be at least 0")


@routing("dynamo-kv", Params)
class DynamoKv:
    def __init__(self, params: Params, rng: Random) -> None:
        self._params = params
        self._rng = rng

    def rank(
        self, request: RequestView, candidates: Sequence[InstanceView], now: float
    ) -> list[InstanceView]:
        if not candidates:
            return []
        costs = [self._cost(request, view) for view in candidates]
        if self._params.temperature > 0:
            return [self._draw(candidates, costs)]
        return [lowest(candidates, costs)]

    def _cost(self, request: RequestView, view: InstanceView) -> float:
        queued = view.queued_tokens
        to_compute = queued + request.prompt_tokens - view.cached_tokens(request)
        held = view.context_tokens + queued + request.prompt_tokens
        return self._params.overlap_weight * to_compute + held

    def _draw(self, candidates: Sequence[InstanceView], costs: Sequence[float]) -> InstanceView:
        least, span = min(costs), max(costs) - min(costs) or 1.0
        weights = [exp((least - cost) / span / self._params.temperature) for cost in costs]
        return self._rng.choices(candidates, weights)[0]
