"""Reject only what would miss its objective everywhere. Fairlead's default.

Source: our own; early rejection on predicted load is Mooncake's, the two checks xLLM-Service's.
Rule:   a request is rejected if on every instance the predicted first token comes after
        `tolerance` times its `ttft_s`, or the predicted last token after `tolerance` times its
        deadline; where a queue stands, after `margin` of that. A promised pace (`tpot_s`) rejects
        nobody: the instance's budget protects it. Batch work is never rejected.

Instances that only decode are asked for the time from the first token to the last, and only where
the first is made by one that hands off; for all of it where nobody else is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from fairlead.model import InstanceView, RequestView, Role
from fairlead.policies.admission import sides
from fairlead.policies.registry import admission

QUEUE = 8
"""So many who wait are a queue: how long it takes is known less well than how long work takes."""


@dataclass(frozen=True, slots=True)
class Params:
    tolerance: float = 1.0
    """How far beyond the promise a prediction must lie, as a factor of the promise. Above 1 gives
    doubtful requests a chance, at the expense of those already inside."""
    margin: float = 0.6
    """Of that, the part within which the prediction must lie where a queue stands, above 0 and at
    most 1. Under more load than the fleet can bear the queue is always as long as admission lets it
    be: at 1 everybody's first token comes when it is due, give or take, and half of the work is for
    those who miss. Of a deadline the rest is for answers that are longer than expected, too."""
    min_retry_after_s: float = 1.0
    """Shortest Retry-After: below it a rejected client only adds load."""

    def __post_init__(self) -> None:
        if self.tolerance <= 0 or self.min_retry_after_s <= 0:
            raise ValueError("tolerance and min_retry_after_s must be positive")
        if not 0 < self.margin <= 1:
            raise ValueError(f"margin must be above 0 and at most 1, got {self.margin}")


@admission("predicted", Params)
class Predicted:
    def __init__(self, params: Params, rng: Random) -> None:
        self._params = params

    def retry_after_s(
        self, request: RequestView, candidates: Sequence[InstanceView], now: float
    ) -> float | None:
        if not candidates or not request.objective.timed:
            return None
        handed_off_s = _handed_off_s(request, candidates)
        least_s = float("inf")
        for view in sides.beginners(candidates):
            least_s = min(least_s, self._excess_s(request, view, handed_off_s, now))
            if least_s <= 0:
                return None  # One that keeps the promise is enough; which is best, routing asks.
        return max(least_s, self._params.min_retry_after_s)

    def _excess_s(
        self, request: RequestView, view: InstanceView, handed_off_s: float | None, now: float
    ) -> float:
        """Seconds by which the prediction misses; at most 0 where the objective is kept."""
        objective, within = request.objective, self._params.tolerance
        if view.waiting >= QUEUE:
            within *= self._params.margin
        waited_s = now - request.arrival_s
        excess_s = float("-inf")
        if objective.ttft_s is not None:
            excess_s = waited_s + view.predicted_ttft_s(request) - within * objective.ttft_s
        if objective.deadline_s is not None:
            if view.role is Role.PREFILL and handed_off_s is not None:
                e2e_s = waited_s + view.predicted_ttft_s(request) + handed_off_s
            else:
                e2e_s = waited_s + view.predicted_e2e_s(request)
            excess_s = max(excess_s, e2e_s - within * objective.deadline_s)
        return excess_s


def _handed_off_s(request: RequestView, candidates: Sequence[InstanceView]) -> float | None:
    """Seconds from the first token to the last where they are least for what was handed off; None
    where nobody needs to know, or nobody takes anything over."""
    if request.objective.deadline_s is None:
        return None
    takers = [view for view in candidates if view.role is Role.DECODE]
    return min((sides.decoding_s(request, view) for view in takers), default=None)
