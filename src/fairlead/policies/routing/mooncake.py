"""First token as early as cache and queue allow, where the pace of decoding is kept.

Paper: "Mooncake: A KVCache-centric Disaggregated Architecture for LLM Serving", algorithm 1.
Rule:  lowest predicted TTFT (prefill queued there + prefill of what is not cached there) among the
       instances whose predicted time per output token keeps the promise; of all where none does.

Left out: fetching blocks from the instance that has the longest prefix, and with it the balance
threshold, which decides only between fetching the missing blocks and computing them. Here they are
always computed, and that is what the predicted TTFT counts. The side effect stays: a request that
is pushed off its cache's holder leaves a copy of the hot blocks where it goes. Early rejection is
admission's matter.
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
    tbt_s: float = 0.1
    """Time between tokens to be kept where the request is promised none. The paper's strictest;
    it also tests 0.2 and 0.3."""

    def __post_init__(self) -> None:
        if self.tbt_s <= 0:
            raise ValueError(f"tbt_s must be positive, got {self.tbt_s}")


@routing("mooncake", Params)
class Mooncake:
    def __init__(self, params: Params, rng: Random) -> None:
        self._params = params

    def rank(
        self, request: RequestView, candidates: Sequence[InstanceView], now: float
    ) -> list[InstanceView]:
        tbt_s = request.objective.tpot_s or self._params.tbt_s
        return soonest(request, candidates, tbt_s)
