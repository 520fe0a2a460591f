"""Reject at arrival what the prefill side or the decode side cannot take now.

Paper: "Mooncake: A KVCache-centric Disaggregated Architecture for LLM Serving", early rejection.
Rule:  load is the predicted TTFT over the promised one on the side that prefills, and the predicted
       time per output token over the promised one on the side that decodes, each on the instance
       where it is least. A request is rejected if the larger of the two is above `most`.

A promise that was not made loads nothing, so batch work is never rejected. Load is that of now:
with roles apart it lags behind what prefill will send to decode, and under overload both swing.
`mooncake-predicted` is the paper's cure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from fairlead.model import InstanceView, RequestView
from fairlead.policies.admission import sides
from fairlead.policies.registry import admission


@dataclass(frozen=True, slots=True)
class Params:
    most: float = 1.0
    """Highest load that is admitted, as a factor of the promise."""
    retry_after_s: float = 1.0
    """Shortest Retry-After."""

    def __post_init__(self) -> None:
        if self.most <= 0 or self.retry_after_s <= 0:
            raise ValueError("most and retry_after_s must be positive")


@admission("mooncake-early", Params)
class MooncakeEarly:
    def __init__(self, params: Params, rng: Random) -> None:
        self._params = params

    def retry_after_s(
        self, request: RequestView, candidates: Sequence[InstanceView], now: float
    ) -> float | None:
        promise, most = request.objective, self._params.most
        excess_s = 0.0
        if promise.ttft_s is not None:
            beginners = sides.beginners(candidates)
            ttft_s = min((view.predicted_ttft_s(request) for view in beginners), default=0.0)
            excess_s = now - request.arrival_s + ttft_s - most * promise.ttft_s
        if excess_s <= 0 and not self._too_slow(request, candidates):
            return None
        return max(excess_s, self._params.retry_after_s)

    def _too_slow(self, request: RequestView, candidates: Sequence[InstanceView]) -> bool:
        promised_s, decoders = request.objective.tpot_s, sides.decoders(candidates)
        if promised_s is None or not decoders:
            return False
        tpot_s = min(view.predicted_tpot_s(request) for view in decoders)
        return tpot_s > self._params.most * promised_s
