"""Cached prefix against load, both in seconds. Fairlead's default.

Source: our own; the trade is that of Mooncake's Conductor and of NVIDIA Dynamo's KV router.
Rule:   lowest predicted time to the last token, its own and what others wait for it: computing a
        prompt delays everybody who decodes there. A cached prefix shortens both, a queue lengthens
        the first, and a crowded batch stretches every token after. Where the first token is
        promised, instances that keep the promise come before those that do not.

What others wait for makes long prompts gather where few decode, so that most streams are spared
them: half of what splitting a fleet into prefill and decode is for, without the split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from fairlead.model import InstanceView, RequestView
from fairlead.policies.registry import routing


@dataclass(frozen=True, slots=True)
class Params:
    spare: float = 0.8
    """A promise counts as kept if the prediction takes at most this fraction of it: predictions
    err, and what others are sent next is not in them."""

    others: float = 1.0
    """How much a second counts that somebody else has to wait for it, beside one of its own."""

    def __post_init__(self) -> None:
        if not 0 < self.spare <= 1:
            raise ValueError(f"spare must be above 0 and at most 1, got {self.spare}")


@routing("prefix-load", Params)
class PrefixLoad:
    def __init__(self, params: Params, rng: Random) -> None:
        self._params = params

    def rank(
        self, request: RequestView, candidates: Sequence[InstanceView], now: float
    ) -> list[InstanceView]:
        promised_s = request.objective.ttft_s
        waited_s = now - request.arrival_s

        def cost(view: InstanceView) -> tuple[bool, float, str]:
            late = promised_s is not None and (
                waited_s + view.predicted_ttft_s(request) > self._params.spare * promised_s
            )
            own_s = view.predicted_e2e_s(request)
            others_s = view.running * view.added_s(request) if self._params.others else 0.0
            return (late, own_s + self._params.others * others_s, view.id)

        return sorted(candidates, key=cost)
