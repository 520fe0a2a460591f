"""Where each request is: at an instance, in the fleet's queue, or ended.

Requests are conserved here. Every one that was accepted has one owner until it ends, and it ends
exactly once, with `Complete` or `Reject`.
"""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.fleet.handoffs import Handoffs
from fairlead.fleet.holding import Holding
from fairlead.fleet.later import Later
from fairlead.fleet.lengths import OutputLengths
from fairlead.fleet.limits import Limits
from fairlead.fleet.queue import FleetQueue, LeftOut
from fairlead.fleet.roster import Roster
from fairlead.fleet.shadow import Shadow
from fairlead.fleet.tracked import Choices, Tracked
from fairlead.model import (
    Action,
    Complete,
    CompleteWhy,
    Dispatch,
    DispatchWhy,
    FinishReason,
    InstanceId,
    Outcome,
    RefuseWhy,
    Reject,
    RejectWhy,
    Request,
    RequestId,
)
from fairlead.policies.admission import AdmissionPolicy
from fairlead.policies.fairness import FairnessPolicy
from fairlead.policies.routing import RoutingPolicy

PREDICTED_EVERY = 8
"""One request in so many tells how good predictions are."""

_STILL_LOOKING = (DispatchWhy.QUEUED, DispatchWhy.REFUSED_ELSEWHERE)
"""A request that goes to and fro between the queue and instances that refuse it waits all along."""

_FOR_GOOD = (RejectWhy.TOO_LONG, RejectWhy.UNSUPPORTED)
"""Coming back later does not help."""
_UNFIT = {
    RefuseWhy.TOO_LONG: (RejectWhy.TOO_LONG, CompleteWhy.NOWHERE_FITS),
    RefuseWhy.UNSUPPORTED: (RejectWhy.UNSUPPORTED, CompleteWhy.CANNOT_GO_ON),
    RefuseWhy.CANNOT_GO_ON: (RejectWhy.UNSUPPORTED, CompleteWhy.CANNOT_GO_ON),
}
"""Refusals that an instance does not take back, and how a request ends that got them everywhere."""


class Placement:
    """Places requests, queues them, takes them away and ends them."""

    def __init__(
        self,
        roster: Roster,
        handoffs: Handoffs,
        routing: RoutingPolicy,
        admission: AdmissionPolicy,
        fairness: FairnessPolicy,
        lengths: OutputLengths,
        limits: Limits,
    ) -> None:
        self._roster = roster
        self._handoffs = handoffs
        self._routing = routing
        self._admission = admission
        self._fairness = fairness
        self._lengths = lengths
        self._limits = limits
        self.holding = Holding(roster, fairness.hold_s)
        self.requests: dict[RequestId, Tracked] = {}
        """Everything under way, in order of arrival."""
        self.queue = FleetQueue(fairness)
        """Those who wait for an instance with room."""
        self._calls: dict[str, Choices] = {}
        """Calls with several choices."""
        self._dispatches = 0

    def current(self, instance: InstanceId, request: RequestId, attempt: int) -> Tracked | None:
        """The request, if this is the attempt that counts."""
        tracked = self.requests.get(request)
        if tracked is None or tracked.instance != instance or tracked.attempt != attempt:
            return None
        return tracked

    # ---------------------------------------------------------------- who could take it

    def n_before(self, request: Request) -> int:
        """How many have their turns before its own; nobody where no order is kept."""
        n_waiting = self.queue.n_of_model[request.model]
        if not self.holding.active or not n_waiting:
            return 0
        lane, due_s = self._fairness.lane(request), self._due_s(request)
        n_own = self.queue.n_before(request.model, lane, due_s)
        return min(self._fairness.n_before(request, n_own), n_waiting)

    def candidates(self, request: Request, n_before: int) -> list[Shadow]:
        """Instances that could take a request that has just come."""
        if n_before:
            return []
        candidates = [s for s in self._roster.beginners(request.model) if s.has_room]
        return candidates if self.holding.any_turn(request, candidates) else []

    def candidates_for(self, tracked: Tracked) -> list[Shadow]:
        """The same for one that is here already, without those that have said that they can never
        serve it."""
        candidates = [shadow for shadow in self.who_may_begin(tracked) if shadow.has_room]
        begins = tracked.call_has_begun or self.holding.any_turn(tracked.request, candidates)
        return candidates if begins else []

    def later(self, request: Request, n_before: int, now: float) -> list[Later]:
        """Those that would begin the request when it has had its time in the queue, where somebody
        keeps that in order."""
        if not self.holding.active:
            return []
        beginners = self._roster.beginners(request.model)
        wait_s = self._fairness.wait_s(request, n_before, now)
        return [Later(shadow, n_before // len(beginners), wait_s) for shadow in beginners]

    def _due_s(self, request: Request) -> float:
        """When its turn must have come, if it decoded as fast as they do now on an instance."""
        beginners = self._roster.beginners(request.model) if self.holding.active else ()
        return beginners[0].begin_by_s(request) if beginners else float("inf")

    def who_may_begin(self, tracked: Tracked) -> Sequence[Shadow]:
        """Instances to which it is sent, with room or without: where it is too long for all that
        begin requests, those that else only take over."""
        model, unfit = tracked.request.model, tracked.unfit
        if not unfit:
            return self._roster.beginners(model)
        begin = [shadow for shadow in self._roster.beginners(model) if shadow.id not in unfit]
        return begin or [s for s in self._roster.takers(model) if s.id not in unfit]

    # ---------------------------------------------------------------- placing

    def accept(
        self, request: Request, candidates: list[Shadow], why: DispatchWhy, now: float
    ) -> list[Action]:
        """From now on the fleet answers for this request."""
        tracked = self.requests[request.id] = Tracked(request, now)
        if request.call:
            tracked.choices = self._calls.setdefault(request.call, Choices())
            tracked.choices.under_way[request.id] = tracked
        self._fairness.arrived(request, self._lengths.expected(request), now)
        return self.place(tracked, why, now, candidates)

    def place(
        self, tracked: Tracked, why: DispatchWhy, now: float, candidates: list[Shadow]
    ) -> list[Action]:
        """Sends a request to the best candidate; without one, or before its turn there, it
        queues."""
        if why not in _STILL_LOOKING:
            tracked.queued_s = now
        shadow = self._best(tracked, candidates, now)
        if shadow is None or self.holding.waits_for(tracked, shadow, now):
            self._enqueue(tracked)
            return []
        if tracked in self.queue:
            self.queue.remove(tracked)
        if tracked.attempt == 0:
            self._fairness.began(tracked.request, shadow, now)
            self._predict(tracked, shadow, now)
        return [self.dispatch(tracked, shadow, why, now)]

    def _best(self, tracked: Tracked, candidates: list[Shadow], now: float) -> Shadow | None:
        if not candidates:
            return None
        return self._roster.by_id[self._routing.rank(tracked.request, candidates, now)[0].id]

    def _enqueue(self, tracked: Tracked) -> None:
        if tracked not in self.queue:
            tracked.instance = None
            tracked.refused.clear()
            tracked.due_s = self._due_s(tracked.request)
            self.queue.add(tracked)

    def dispatch(self, tracked: Tracked, shadow: Shadow, why: DispatchWhy, now: float) -> Dispatch:
        request = tracked.request
        tracked.instance = shadow.id
        tracked.issued += 1
        tracked.attempt = tracked.issued
        tracked.dispatched_s = now
        shadow.promise(request, tracked.attempt, len(tracked.produced))
        return Dispatch(shadow.id, request, tracked.attempt, tuple(tracked.produced), why)

    def _predict(self, tracked: Tracked, shadow: Shadow, now: float) -> None:
        """What the shadow believes, to be held against what happens: of one request in a few, for
        a figure and no decision hangs on it."""
        self._dispatches += 1
        if self._dispatches % PREDICTED_EVERY == 1:
            waited_s = now - tracked.request.arrival_s
            tracked.predicted_ttft_s = waited_s + shadow.predicted_ttft_s(tracked.request)
            tracked.predicted_e2e_s = waited_s + shadow.predicted_e2e_s(tracked.request)

    def call_begins(self, choices: Choices) -> None:
        """Its client has the first word of one choice: others that queue are waited for now."""
        choices.begun = True
        for tracked in choices.under_way.values():
            if tracked in self.queue:
                self.queue.remove(tracked)
                self.queue.add(tracked)

    def place_again(self, tracked: Tracked, why: DispatchWhy, now: float) -> list[Action]:
        """A request that was accepted, and perhaps streams already, needs another instance."""
        given_up = self._handoffs.abandon(tracked)
        return given_up + self._place_anew(tracked, why, now)

    def _place_anew(self, tracked: Tracked, why: DispatchWhy, now: float) -> list[Action]:
        if tracked.instance is not None:
            self.leave(tracked)
        if len(tracked.produced) >= tracked.request.max_tokens:
            # Only the word that it had finished was lost.
            return self.complete(tracked, Outcome.FINISHED, CompleteWhy.ENDED, FinishReason.LENGTH)
        tracked.refused.clear()
        return self.place(tracked, why, now, self.candidates_for(tracked))

    def place_queued(self, now: float) -> list[Action]:
        """Gives queued requests to instances that have room again, one after the other as their
        turns come."""
        if not self.queue:
            return []
        actions: list[Action] = []
        left_out = LeftOut()
        while (found := self._place_next(left_out, now)) is not None:
            actions += found
        return actions

    def _place_next(self, left_out: LeftOut, now: float) -> list[Action] | None:
        """What is done about the first that does not have to wait longer; None: all of them do."""
        for tracked in self.queue.in_turn():
            if left_out.all_of(self.queue.n_of_model):
                break
            if left_out.holds(tracked):
                continue
            candidates = self.candidates_for(tracked)
            if not candidates:
                left_out.add_line(tracked, all_alike=not self.holding.active)
                continue
            if not self.holding.still_waits(tracked, candidates, now):
                actions = self._take_turn(tracked, candidates, now)
                if tracked not in self.queue:
                    return actions
            left_out.add(tracked)
        return None

    def _take_turn(self, tracked: Tracked, candidates: list[Shadow], now: float) -> list[Action]:
        """One that was held back while the queue moved is asked about once more: if it cannot be in
        time any more, others still can. Not in the middle of a call, all of which would be lost."""
        if self.holding.active and tracked.attempt == 0 and not tracked.call_has_begun:
            retry_after_s = self._admission.retry_after_s(tracked.request, candidates, now)
            if retry_after_s is not None:
                self._forget(tracked)
                return [Reject(tracked.request.id, RejectWhy.NO_HEADROOM, retry_after_s)]
        return self.place(tracked, DispatchWhy.QUEUED, now, candidates)

    def is_full(self, model: str) -> bool:
        """Whether no more may wait for it. Those that instances would let wait there, if they were
        not kept here, do not count."""
        n_more = len(self.queue) - self._limits.max_queued
        return n_more >= 0 and n_more >= self.holding.places(model)

    def make_room(self, request: Request) -> list[Action]:
        """The queue is full: the newest request of whoever crowds it is rejected. Nothing, where
        that would be this request itself."""
        lane = self._fairness.crowder(request)
        last = None if lane is None else self.queue.newest(lane)
        if last is None:
            return []
        return self.give_up(last, RejectWhy.QUEUE_FULL, CompleteWhy.NO_INSTANCE_LEFT)

    # ---------------------------------------------------------------- leaving

    def leave(self, tracked: Tracked) -> None:
        """The request is not at its instance any more."""
        shadow = self._roster.by_id.get(tracked.instance) if tracked.instance else None
        if shadow is not None:
            shadow.release(tracked.request.id, tracked.context_tokens)
        tracked.instance = None

    def complete(
        self,
        tracked: Tracked,
        outcome: Outcome,
        why: CompleteWhy,
        reason: FinishReason | None = None,
        cached_tokens: int = 0,
    ) -> list[Action]:
        given_up = self._handoffs.abandon(tracked)
        self._forget(tracked)
        said = tracked.said if outcome is Outcome.FAILED else ""
        complete = Complete(tracked.request.id, outcome, reason, why, cached_tokens, said)
        return [complete, *given_up]

    def give_up(self, tracked: Tracked, reject: RejectWhy, fail: CompleteWhy) -> list[Action]:
        """Ends a request that cannot be placed: a rejection as long as nothing was delivered."""
        if tracked.produced:
            return self.complete(tracked, Outcome.FAILED, fail)
        self._forget(tracked)
        retry_after_s = None if reject in _FOR_GOOD else self.queue_wait_s()
        return [Reject(tracked.request.id, reject, retry_after_s, tracked.said)]

    def give_up_unfit(self, tracked: Tracked) -> list[Action]:
        """Ends a request that no instance can serve, for the reason that the last of them gave."""
        reject, fail = _UNFIT[next(reversed(tracked.unfit.values()), RefuseWhy.TOO_LONG)]
        return self.give_up(tracked, reject, fail)

    def give_up_overdue(self, now: float) -> list[Action]:
        """Ends those that have queued for longer than anybody should; not those who wait their
        turn, and were promised no time, while instances have room."""
        late_s = now - self._limits.max_queued_s
        late = [tracked for tracked in self.queue if tracked.queued_s < late_s]
        kept = {model for model in {t.request.model for t in late} if self.holding.places(model)}
        actions: list[Action] = []
        for tracked in late:
            if tracked.request.objective.timed or tracked.request.model not in kept:
                actions += self.give_up(
                    tracked, RejectWhy.WAITED_TOO_LONG, CompleteWhy.NO_INSTANCE_LEFT
                )
        return actions

    def _forget(self, tracked: Tracked) -> None:
        if tracked.instance is None:
            if tracked in self.queue:
                self.queue.remove(tracked)
        else:
            self.leave(tracked)
        del self.requests[tracked.request.id]
        if tracked.choices is not None:
            self._leave_call(tracked, tracked.choices)
        self._fairness.ended(tracked.request.id, len(tracked.produced))

    def _leave_call(self, tracked: Tracked, choices: Choices) -> None:
        del choices.under_way[tracked.request.id]
        if not choices.under_way:
            del self._calls[tracked.request.call]

    def queue_wait_s(self) -> float:
        """When a place will probably be free: the backlog of the least loaded instance, shared by
        all who queue already."""
        waits = [shadow.backlog_s() for shadow in self._roster.by_id.values()]
        if not waits:
            return self._limits.max_queued_s
        return min(waits) * (1 + len(self.queue) / len(waits))

    def check_invariants(self) -> None:
        """Requests are conserved and have one owner: invariants 1 and 4."""
        queued = list(self.queue)
        assert len({id(tracked) for tracked in queued}) == len(queued), "queued twice"
        for tracked in queued:
            assert tracked.instance is None, f"{tracked!r} is queued and placed"
            assert self.requests.get(tracked.request.id) is tracked, f"{tracked!r} is unknown"
        calls = {tracked.request.call for tracked in self.requests.values()} - {""}
        assert self._calls.keys() == calls, "a call is remembered without its choices"
        for tracked in self.requests.values():
            if tracked.instance is None:
                assert tracked in self.queue, f"{tracked!r} is nowhere"
            else:
                shadow = self._roster.by_id.get(tracked.instance)
                assert shadow is not None, f"{tracked!r} is on an instance that is gone"
                known = shadow.attempts.get(tracked.request.id)
                assert known == tracked.attempt, f"{shadow.id} does not know {tracked!r}"
