"""The instance with the lowest predicted time to the first token, whatever comes after it.

Source: the baseline of that name in "DualMap: Enabling Both Cache Affinity and Load Balancing for
        Distributed LLM Serving", which stands for Mooncake's Conductor without its transfers.
Rule:   smallest (prefill queued there + prefill of what is not cached there).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from fairlead.model import InstanceView, RequestView
from fairlead.policies.registry import routing
from fairlead.policies.routing.parts import soonest


@dataclass(frozen=True, slots=True)
class Params:
    pass


@routing("min-ttft", Params)
class MinTtft:
    def __init__(self, params: Params, rng: Random) -> None:
        pass

    def rank(
        self, request: RequestView, candidates: Sequence[InstanceView], now: float
    ) -> list[InstanceView]:
        return soonest(request, candidates)
