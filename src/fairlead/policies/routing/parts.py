"""What a routing policy offers, and what several of them are made of: scores and pickers.

A score is in [0, 1] for every candidate, and higher is better, so that weights mean the same
whatever they weigh. The filters have run before a policy is asked: its candidates serve the
request's model and have room.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from random import Random
from typing import Protocol

from fairlead.model import InstanceId, InstanceView, RequestView

BY_ID = attrgetter("id")

Scorer = Callable[[RequestView, Sequence[InstanceView]], list[float]]


class RoutingPolicy(Protocol):
    def rank(
        self, request: RequestView, candidates: Sequence[InstanceView], now: float
    ) -> Sequence[InstanceView]:
        """The candidates worth considering, best first. `candidates` all serve the request's model
        and have room; the result is empty only if they are."""
        ...


def n_requests(view: InstanceView) -> int:
    """Requests there, those sent and not yet reported too."""
    return view.running + view.waiting


# ---------------------------------------------------------------- scorers


def short_queue(request: RequestView, candidates: Sequence[InstanceView]) -> list[float]:
    """1 for whoever has the fewest waiting, 0 for the most; 1 for all where they are equal."""
    waiting = [view.waiting for view in candidates]
    most, least = max(waiting), min(waiting)
    if most == least:
        return [1.0] * len(candidates)
    return [(most - n) / (most - least) for n in waiting]


def free_memory(request: RequestView, candidates: Sequence[InstanceView]) -> list[float]:
    """The share of KV blocks that requests do not need."""
    return [view.available_blocks / max(view.total_blocks, 1) for view in candidates]


def cached_prefix(request: RequestView, candidates: Sequence[InstanceView]) -> list[float]:
    """The share of the prompt whose KV is there."""
    prompt_tokens = max(request.prompt_tokens, 1)
    return [view.cached_tokens(request) / prompt_tokens for view in candidates]


def weighted(
    scorers: Sequence[tuple[float, Scorer]],
    request: RequestView,
    candidates: Sequence[InstanceView],
) -> list[float]:
    """The sum of weight times score, for each candidate."""
    totals = [0.0] * len(candidates)
    for weight, scorer in scorers:
        scores = scorer(request, candidates)
        totals = [total + weight * score for total, score in zip(totals, scores, strict=True)]
    return totals


# ---------------------------------------------------------------- pickers


def soonest(
    request: RequestView, candidates: Sequence[InstanceView], tpot_s: float = float("inf")
) -> list[InstanceView]:
    """The candidate with the lowest predicted time to the first token, or none if there are none;
    one whose predicted time per output token is above `tpot_s` only where all are. Of equals the
    one whose id is first.

    There may be a thousand, and a prediction costs microseconds: begins with those that could be
    soonest, and predicts only who could be sooner than the best found."""
    least_s = [view.least_ttft_s(request) for view in candidates]
    best, found = (True, float("inf"), InstanceId("")), None
    for i in sorted(range(len(candidates)), key=least_s.__getitem__):
        view = candidates[i]
        if found is None or (False, least_s[i], view.id) < best:
            slow = tpot_s < float("inf") and view.predicted_tpot_s(request) > tpot_s
            cost = (slow, view.predicted_ttft_s(request), view.id)
            if found is None or cost < best:
                best, found = cost, view
    return [] if found is None else [found]


def lowest(candidates: Sequence[InstanceView], costs: Sequence[float]) -> InstanceView:
    """The candidate with the lowest cost; of equals the one whose id is first."""
    least = min(costs)
    equals = [view for view, cost in zip(candidates, costs, strict=True) if cost == least]
    return min(equals, key=BY_ID)


def highest(
    candidates: Sequence[InstanceView], scores: Sequence[float], rng: Random
) -> InstanceView:
    """The candidate with the highest score; equal ones are drawn from, so that none of them is
    everybody's first."""
    most = max(scores)
    return rng.choice([v for v, score in zip(candidates, scores, strict=True) if score == most])


def fewest_requests(candidates: Sequence[InstanceView], rng: Random) -> InstanceView:
    """The candidate with the fewest requests; equal ones are drawn from."""
    return highest(candidates, [-n_requests(view) for view in candidates], rng)


def draw(candidates: Sequence[InstanceView], n: int, rng: Random) -> list[InstanceView]:
    """So many of them, none twice, in an order that is random too; all where there are fewer."""
    return rng.sample(list(candidates), min(n, len(candidates)))
