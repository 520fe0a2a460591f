"""Cached prefix against load, both in seconds. Fairlead's default.

Source: our own; the trade is that of Mooncake's Conductor and of NVIDIA Dynamo's KV router.
Rule:   lowest predicted time to the last token, its own and what it costs others: computing a
        prompt delays everybody who decodes there, and breaks the promised pace of those who have
        just begun; where prompts come too fast, of all, its own included. A cached prefix shortens
        all of it, a queue lengthens the first, and a crowded batch stretches every token after.
        Where the first token is promised, instances that keep the promise come before those that
        do not.

What others wait for makes long prompts gather where few decode, so that most streams are spared
them: half of what splitting a fleet into prefill and decode is for, without the split. What it
breaks keeps them from gathering on each other: the few tokens that follow a long prompt bear no
second one, and no answer bears prompts without end.

In a large fleet all are compared by tokens, and in full only the best of them and the fullest:
where paces are broken already, one that was promised none breaks no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from random import Random
from typing import NamedTuple

from fairlead.model import InstanceId, InstanceView, RequestView
from fairlead.policies.registry import routing

ALIKE = 1.05
"""Times whose ratio is below this are taken as equal."""
_LOG_ALIKE = log(ALIKE)
FULLEST = 4
"""One in so many that are compared in full is of the fullest, the others are the best."""
LEAST_S = 0.001
UNBEGUN = 4.0
"""How much a token counts that delays somebody who has not begun, beside one of its own: a pace
that has just begun bears no pause."""


@dataclass(frozen=True, slots=True)
class Params:
    spare: float = 0.8
    """A promise counts as kept if the prediction takes at most this fraction of it: predictions
    err, and what others are sent next is not in them."""

    others: float = 1.2
    """How much a second counts that somebody else has to wait for it, beside one of its own."""

    promise_s: float = 30.0
    """Seconds that a kept pace is worth."""

    weighed: int = 32
    """Instances that are compared in full; one in four of them is of the fullest."""

    def __post_init__(self) -> None:
        if not 0 < self.spare <= 1:
            raise ValueError(f"spare must be above 0 and at most 1, got {self.spare}")
        if min(self.others, self.promise_s) < 0:
            raise ValueError("others and promise_s must be at least 0")
        if self.weighed < 2:
            raise ValueError(f"weighed must be at least 2, got {self.weighed}")


class _Offer(NamedTuple):
    """What one instance would take; the better one is the lesser."""

    late: bool
    about: int
    """Equal for times that predictions cannot tell apart: two instances of one kind never take
    exactly as long, and not all should go to the one that was a little faster of late."""
    about_time: int
    """The same of time alone: where many paces break wherever it goes, what is cached still is."""
    n_requests: int
    id: InstanceId
    time_s: float
    view: InstanceView


def _offer(late: bool, time_s: float, view: InstanceView, broken_s: float = 0.0) -> _Offer:
    about_time = about = _about(time_s)
    if broken_s:
        about = _about(time_s + broken_s)
    n_requests = view.running + view.waiting
    return _Offer(late, about, about_time, n_requests, view.id, time_s, view)


def _about(seconds: float) -> int:
    return int(log(seconds + LEAST_S) / _LOG_ALIKE)


@routing("prefix-load", Params)
class PrefixLoad:
    def __init__(self, params: Params, rng: Random) -> None:
        self._params = params

    def rank(
        self, request: RequestView, candidates: Sequence[InstanceView], now: float
    ) -> list[InstanceView]:
        if len(candidates) > self._params.weighed:
            candidates = self._worth_weighing(request, candidates)
        if not candidates:
            return []
        late_s = self._late_s(request, now)
        offers = sorted([self._offer(request, view, late_s) for view in candidates])
        best = self._cheapest(request, offers)
        return [best.view, *(offer.view for offer in offers if offer is not best)]

    def _cheapest(self, request: RequestView, offers: Sequence[_Offer]) -> _Offer:
        """With the promises that each would break. They make none cheaper, so whoever is dearer
        without them than another is with them is not asked."""
        best, whole = offers[0], self._with_promises(request, offers[0])
        for offer in offers[1:]:
            if not offer < whole:
                break
            other = self._with_promises(request, offer)
            if other < whole:
                best, whole = offer, other
        return best

    def _offer(self, request: RequestView, view: InstanceView, late_s: float) -> _Offer:
        # What lets it go first still fills whatever its pace leaves to spare.
        time_s = view.predicted_e2e_s(request) + view.yielding_s(request)
        if view.running:
            time_s += self._params.others * view.running * view.added_s(request)
        return _offer(view.predicted_ttft_s(request) > late_s, time_s, view)

    def _with_promises(self, request: RequestView, offer: _Offer) -> _Offer:
        broken_s = self._params.promise_s * offer.view.broken_paces(request)
        return _offer(offer.late, offer.time_s, offer.view, broken_s) if broken_s else offer

    def _late_s(self, request: RequestView, now: float) -> float:
        """A predicted first token after this, from now, does not keep the promise."""
        promised_s = request.objective.ttft_s
        if promised_s is None:
            return float("inf")
        return self._params.spare * promised_s - (now - request.arrival_s)

    def _worth_weighing(
        self, request: RequestView, candidates: Sequence[InstanceView]
    ) -> list[InstanceView]:
        """In tokens: those where it is computed soonest and for the fewest others to wait, and
        those that are fullest."""
        others, prompt_tokens = self._params.others, request.prompt_tokens
        works = []
        for view in candidates:
            own = prompt_tokens - view.cached_tokens(request)
            burdened = 1 + others * view.running + UNBEGUN * view.waiting
            # What is queued delays the first token, and comes between those that follow.
            works.append(2 * view.promised_tokens + own * burdened)
        by_work = sorted(range(len(works)), key=works.__getitem__)
        n_fullest = self._params.weighed // FULLEST
        n_best = self._params.weighed - n_fullest
        chosen = by_work[:n_best] + by_work[len(works) - n_fullest :]
        return [candidates[i] for i in chosen]
