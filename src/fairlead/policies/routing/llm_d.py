"""Filters, then scores of queue, memory and prefix, weighted and added, then the highest.

Source: llm-d/llm-d-inference-scheduler and kubernetes-sigs/gateway-api-inference-extension: the
        default profile with the scorers queue 2, kv-cache-utilization 2, prefix-cache 3 and the
        max-score picker.
Rule:   highest 2·(short queue) + 2·(1 − KV in use) + 3·(share of the prompt cached), each in
        [0, 1]; equal ones are drawn from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from fairlead.model import InstanceView, RequestView
from fairlead.policies.registry import routing
from fairlead.policies.routing.parts import (
    cached_prefix,
    free_memory,
    highest,
    short_queue,
    weighted,
)


@dataclass(frozen=True, slots=True)
class Params:
    queue: float = 2.0
    """Weight of the queue's score: how few wait, between the longest and the shortest queue."""
    kv: float = 2.0
    """Weight of the share of KV blocks not in use."""
    prefix: float = 3.0
    """Weight of the share of the prompt that is cached."""

    def __post_init__(self) -> None:
        if min(self.queue, self.kv, self.prefix) < 0:
            raise ValueError("queue, kv and prefix must be at least 0")


@routing("llm-d", Params)
class LlmD:
    def __init__(self, params: Params, rng: Random) -> None:
        self._scorers = [
            (params.queue, short_queue),
            (params.kv, free_memory),
            (params.prefix, cached_prefix),
        ]
        self._rng = rng

    def rank(
        self, request: RequestView, candidates: Sequence[InstanceView], now: float
    ) -> list[InstanceView]:
        if not candidates:
            return []
        scores = weighted(self._scorers, request, candidates)
        return [highest(candidates, scores, self._rng)]
