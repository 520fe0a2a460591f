"""The instance with the fewest requests, and among those the least work queued.

Rule: smallest (running + waiting requests, queued prompt tokens) first. The count includes
      requests that were sent and not yet reported, so that a burst does not herd.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from fairlead.model import InstanceView, RequestView
from fairlead.policies.registry import routing
from fairlead.policies.routing.parts import BY_ID


@dataclass(frozen=True, slots=True)
class Params:
    pass


@routing("least-load", Params)
class LeastLoad:
    def __init__(self, params: Params, rng: Random) -> None:
        pass

    def rank(
        self, request: RequestView, candidates: Sequence[InstanceView], now: float
    ) -> list[InstanceView]:
        counts = [view.running + view.waiting for view in candidates]
        least = min(counts, default=0)
        best = [view for view, n in zip(candidates, counts, strict=True) if n == least]
        if least == 0:
            return [min(best, key=BY_ID)] if best else []  # Empty ones have no work queued.
        if len(best) > 1:
            best.sort(key=lambda view: (view.queued_tokens, view.id))
        return best
