"""The Fleet: all instances as seen from outside, the requests under way, and every decision above
one instance. Facts in, actions out.

It reads no clock, opens nothing and draws no randomness it was not given. Equal state and equal
events give equal actions. Every accepted request ends exactly once, with `Complete` or `Reject`;
every token position of a request is delivered exactly once, in order, whatever happens to the
instances that make them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fairlead.fleet.handoffs import Handoffs, is_expected
from fairlead.fleet.lengths import OutputLengths
from fairlead.fleet.limits import Limits
from fairlead.fleet.pools import Pool, PoolBounds
from fairlead.fleet.shadow import Present, Shadow
from fairlead.fleet.tracked import Moving, Tracked
from fairlead.model import (
    Action,
    Arrived,
    Cancel,
    Cancelled,
    CancelWhy,
    Complete,
    CompleteWhy,
    Deliver,
    Dispatch,
    DispatchWhy,
    Draining,
    Event,
    Finished,
    FinishReason,
    HandedOff,
    HandoffWhy,
    InstanceDown,
    InstanceId,
    InstanceUp,
    Outcome,
    Preempted,
    Refused,
    RefuseWhy,
    Reject,
    RejectWhy,
    Report,
    Reported,
    Request,
    RequestId,
    Resized,
    Role,
    Tick,
    TokenRow,
    Tokens,
)
from fairlead.policies.admission import AdmissionPolicy
from fairlead.policies.rescheduling import Move, ReschedulingPolicy
from fairlead.policies.routing import RoutingPolicy
from fairlead.policies.scaling import ScalingPolicy

PREDICTED_EVERY = 8
"""One request in so many tells how good predictions are."""


class Fleet:
    """See the module. One event at a time through `handle`; times never run back."""

    def __init__(
        self,
        routing: RoutingPolicy,
        admission: AdmissionPolicy,
        limits: Limits | None = None,
        models: Iterable[str] = (),
        rescheduling: ReschedulingPolicy | None = None,
        pools: Iterable[tuple[PoolBounds, ScalingPolicy | None]] = (),
    ) -> None:
        """`models` are those that pools promise: requests for them wait for the first instance."""
        self._routing = routing
        self._admission = admission
        self._rescheduling = rescheduling
        self._reschedule_s = float("-inf")
        """When it is to be asked next."""
        self._limits = limits or Limits()
        self._requests: dict[RequestId, Tracked] = {}
        self._queue: deque[Tracked] = deque()
        self._instances: dict[InstanceId, Shadow] = {}
        self.handoffs = Handoffs(self._instances)
        self._models: dict[str, list[Shadow]] = {model: [] for model in models}
        """The instances of each model to which requests are sent."""
        self._decoders: dict[str, list[Shadow]] = {}
        """Those that only take requests over whose prompts are computed."""
        self.pools = {bounds.name: Pool(bounds, scaling, self._queue) for bounds, scaling in pools}
        self._draining = False
        self._dispatches = 0
        self._present = Present()
        self.lengths = OutputLengths()
        self._handlers: dict[type[Any], Callable[[Any, float], list[Action]]] = {
            Arrived: self._arrived,
            Cancelled: self._cancelled,
            Tokens: self._tokens,
            Finished: self._finished,
            Preempted: self._preempted,
            Refused: self._refused,
            HandedOff: self._handed_off,
            Reported: self._reported,
            InstanceUp: self._instance_up,
            InstanceDown: self._instance_down,
            Draining: self._drain,
            Resized: self._resized,
            Tick: self._tick,
        }

    @property
    def requests(self) -> Mapping[RequestId, Tracked]:
        """Everything under way, in order of arrival."""
        return self._requests

    @property
    def instances(self) -> Mapping[InstanceId, Shadow]:
        return self._instances

    @property
    def n_queued(self) -> int:
        return len(self._queue)

    @property
    def draining(self) -> bool:
        return self._draining

    def handle(self, event: Event, now: float) -> list[Action]:
        """What is to be done about a fact. An event that cannot be obeyed changes nothing."""
        assert now >= self._present.now, f"time ran back from {self._present.now} to {now}"
        self._present.now = now
        return self._handlers[type(event)](event, now)

    # ---------------------------------------------------------------- clients

    def _arrived(self, event: Arrived, now: float) -> list[Action]:
        request = event.request
        if request.id in self._requests:
            return []
        if self._draining:
            return [Reject(request.id, RejectWhy.DRAINING, None)]
        if request.model not in self._models:
            return [Reject(request.id, RejectWhy.NO_INSTANCE, None)]
        candidates = self._candidates(request)
        retry_after_s = self._admission.retry_after_s(request, candidates, now)
        if retry_after_s is not None:
            return [Reject(request.id, RejectWhy.NO_HEADROOM, retry_after_s)]
        if not candidates and len(self._queue) >= self._limits.max_queued:
            return [Reject(request.id, RejectWhy.QUEUE_FULL, self._queue_wait_s())]
        for pool in self.pools.values():
            if pool.policy is not None and pool.model == request.model:
                pool.policy.arrived(request, now)
        tracked = Tracked(request, now)
        self._requests[request.id] = tracked
        return self._place(tracked, DispatchWhy.ROUTED, now, candidates)

    def _cancelled(self, event: Cancelled, now: float) -> list[Action]:
        tracked = self._requests.get(event.request)
        if tracked is None:
            return []
        slow = event.why is CancelWhy.CLIENT_SLOW
        why = CompleteWhy.CLIENT_SLOW if slow else CompleteWhy.CLIENT_LEFT
        actions: list[Action] = []
        if tracked.instance is not None:
            actions.append(Cancel(tracked.instance, event.request, tracked.attempt, event.why))
        actions += self._complete(tracked, Outcome.CANCELLED, why)
        return actions + self._place_queued(now)

    # ---------------------------------------------------------------- instances' news

    def _tokens(self, event: Tokens, now: float) -> list[Action]:
        accepted: list[TokenRow] = []
        actions: list[Action] = []
        shadow = self._instances.get(event.instance)
        if shadow is None:
            return []
        had_room, n_moved = shadow.has_room, self.handoffs.n_done
        for row in event.rows:
            tracked = self._requests.get(row.request)
            if tracked is None:
                continue
            if tracked.instance != event.instance or tracked.attempt != row.attempt:
                if not is_expected(tracked, event.instance, row.attempt):
                    continue  # Of an attempt that is void.
                if not self._comes_next(tracked, row, now):
                    continue
            actions += self._take(tracked, row, accepted, now)
        if accepted:
            actions.insert(0, Deliver(accepted))
        if self._queue and (
            # Whoever begins to decode leaves the instance's queue; whoever moved left a place.
            (shadow.has_room and not had_room) or self.handoffs.n_done > n_moved
        ):
            actions += self._place_queued(now)
        return actions

    def _take(
        self, tracked: Tracked, row: TokenRow, accepted: list[TokenRow], now: float
    ) -> list[Action]:
        """Tokens of the attempt that counts."""
        produced, instance = tracked.produced, tracked.instance
        assert instance is not None
        if row.start == len(produced):
            produced += row.token_ids
            accepted.append(row)
            shadow = self._instances[instance]
            begins = shadow.first_token(row.request, tracked.context_tokens)
            if tracked.first_token_s is None:
                tracked.first_token_s = now
            if tracked.moving is not None:
                return self._take_ahead(tracked, accepted, now)
            if begins and shadow.role is Role.PREFILL:
                return self._hand_off_prefilled(tracked, now)
        elif row.start > len(produced):
            # Tokens were lost on the way. The instance cannot send them again; another attempt
            # makes the same ones.
            lost = Cancel(instance, row.request, row.attempt, CancelWhy.SUPERSEDED)
            return [lost, *self._place_again(tracked, DispatchWhy.LOST_ON_THE_WAY, now)]
        return []

    def _finished(self, event: Finished, now: float) -> list[Action]:
        tracked = self._current_or_next(event.instance, event.request, event.attempt, event, now)
        if tracked is None:
            return []
        if event.n_produced is not None and len(tracked.produced) < event.n_produced:
            # Its last tokens were lost on the way; another attempt makes the same ones.
            again = self._place_again(tracked, DispatchWhy.LOST_ON_THE_WAY, now)
            return again + self._place_queued(now)
        self.lengths.add(len(tracked.produced))
        actions = self._complete(
            tracked, Outcome.FINISHED, CompleteWhy.ENDED, event.reason, event.cached_tokens
        )
        return actions + self._place_queued(now)

    def _preempted(self, event: Preempted, now: float) -> list[Action]:
        tracked = self._current(event.instance, event.request, event.attempt)
        if tracked is not None:
            self._instances[event.instance].preempted(event.request, tracked.context_tokens)
        return []

    def _refused(self, event: Refused, now: float) -> list[Action]:
        tracked = self._current(event.instance, event.request, event.attempt)
        if tracked is None:
            return []
        self._leave(tracked)
        tracked.refused[event.instance] = None
        if event.why is RefuseWhy.DRAINING:
            self._instances[event.instance].drain()
        if event.why is RefuseWhy.TOO_LONG:
            tracked.too_long_for[event.instance] = None
        candidates = self._candidates_for(tracked)
        others = [view for view in candidates if view.id not in tracked.refused]
        if not others and self._fits_nowhere(tracked):
            actions = self._give_up(tracked, RejectWhy.TOO_LONG, CompleteWhy.NOWHERE_FITS)
        else:
            actions = self._place(tracked, DispatchWhy.REFUSED_ELSEWHERE, now, others)
        # An instance that is full has no room for others either, whatever its shadow says.
        full = event.why is RefuseWhy.QUEUE_FULL
        return actions if full else actions + self._place_queued(now)

    def _reported(self, event: Reported, now: float) -> list[Action]:
        report = event.report
        shadow = self._instances.get(report.instance)
        if shadow is None or (shadow.report and report.as_of_s < shadow.report.as_of_s):
            return []
        inside = dict(report.requests)
        shadow.correct(report, inside)
        actions = [] if inside == shadow.attempts else self._settle(shadow, report, inside, now)
        return actions + self._place_queued(now)

    def _settle(
        self, shadow: Shadow, report: Report, inside: Mapping[RequestId, int], now: float
    ) -> list[Action]:
        """The report and the ledger do not agree: something is on its way, or was lost there."""
        actions: list[Action] = [
            Cancel(report.instance, id, attempt, CancelWhy.SUPERSEDED)
            for id, attempt in report.requests
            if self._current(report.instance, id, attempt) is None
            and not is_expected(self._requests.get(id), report.instance, attempt)
        ]
        here = [self._requests[id] for id in shadow.held()]
        lost = [
            tracked
            for tracked in here
            if inside.get(tracked.request.id) != tracked.attempt
            and tracked.dispatched_s + self._limits.lost_after_s < report.as_of_s
        ]
        for tracked in lost:
            actions += self._place_again(tracked, DispatchWhy.LOST_ON_THE_WAY, now)
        return actions

    def _instance_up(self, event: InstanceUp, now: float) -> list[Action]:
        spec = event.spec
        actions: list[Action] = []
        present = self._instances.get(spec.id)
        if present is not None:
            if present.spec.incarnation == spec.incarnation:
                return []
            actions += self._instance_down(InstanceDown(spec.id, "restarted"), now)
        shadow = self._instances[spec.id] = Shadow(
            spec, self.lengths, self._present, self._requests
        )
        placed = self._models.setdefault(spec.model, [])
        decoders = self._decoders.setdefault(spec.model, [])
        (decoders if spec.role is Role.DECODE else placed).append(shadow)
        if spec.pool in self.pools:
            self.pools[spec.pool].came(shadow, now)
        return actions + self._place_queued(now)

    def _instance_down(self, event: InstanceDown, now: float) -> list[Action]:
        gone = self._instances.pop(event.instance, None)
        if gone is None:
            return []
        if gone.spec.pool in self.pools:
            self.pools[gone.spec.pool].went(event.instance)
        for by_model in (self._models, self._decoders):
            shadows = by_model[gone.spec.model]
            by_model[gone.spec.model] = [shadow for shadow in shadows if shadow is not gone]
        orphans = [
            tracked for tracked in self._requests.values() if tracked.instance == event.instance
        ]
        actions: list[Action] = []
        for tracked in self._requests.values():
            if tracked.moving is not None and tracked.moving.target == event.instance:
                self.handoffs.abandon(tracked)
        for tracked in orphans:
            actions += self.handoffs.abandon(tracked)
            tracked.instance = None
            tracked.deaths += 1
            if tracked.deaths > self._limits.max_deaths:
                actions += self._complete(tracked, Outcome.FAILED, CompleteWhy.INSTANCES_LOST)
            else:
                actions += self._place_again(tracked, DispatchWhy.INSTANCE_LOST, now)
        # Where nobody is left who begins requests, those who else only take over do.
        return actions + self._place_queued(now)

    # ---------------------------------------------------------------- time

    def _drain(self, event: Draining, now: float) -> list[Action]:
        self._draining = True
        return []

    def _tick(self, event: Tick, now: float) -> list[Action]:
        actions: list[Action] = []
        overdue = [
            tracked for tracked in self._queue if now - tracked.queued_s > self._limits.max_queued_s
        ]
        for tracked in overdue:
            actions += self._give_up(
                tracked, RejectWhy.WAITED_TOO_LONG, CompleteWhy.NO_INSTANCE_LEFT
            )
        actions += self._place_queued(now)
        for shadow in self._instances.values():
            if shadow.role is Role.PREFILL:
                for tracked in shadow.decoding:
                    if not tracked.is_moving:
                        actions += self._hand_off_prefilled(tracked, now)
        for pool in self.pools.values():
            pool.ask(now)
            actions += self._rebalance(pool, now)
        moves = self._reschedule(now)
        return [*actions, *moves, *(self._place_queued(now) if moves else ())]

    def _resized(self, event: Resized, now: float) -> list[Action]:
        pool = self.pools.get(event.pool)
        if pool is None or event.n < 0:
            return []
        pool.resize(event.n)
        return self._rebalance(pool, now)

    def _rebalance(self, pool: Pool, now: float) -> list[Action]:
        """Starts instances, or empties them: what has begun is handed off, what has not is sent
        anew. Who finds no place now stays, and is tried again."""
        actions = pool.balance(now)
        for shadow in pool.retiring:
            for tracked in (*shadow.queue, *shadow.decoding):
                if not tracked.is_moving:
                    actions += self._move_away(tracked, shadow, now)
        return actions + pool.stop_empty() + self._place_queued(now)

    def _move_away(self, tracked: Tracked, source: Shadow, now: float) -> list[Action]:
        model, request = tracked.request.model, tracked.request
        if source.decodes(request.id):
            decoders = self._decoders.get(model) or self._models[model]
            takers = [s for s in decoders if s.takes(tracked.context_tokens)]
            if not takers:
                return []
            best = self._routing.rank(request, takers, now)[0]
            return [self.handoffs.begin(tracked, self._instances[best.id], HandoffWhy.DRAIN, now)]
        others = self._candidates_for(tracked)
        if not others:
            return []
        cancel = Cancel(source.id, request.id, tracked.attempt, CancelWhy.SUPERSEDED)
        self._leave(tracked)
        best = self._routing.rank(request, others, now)[0]
        shadow = self._instances[best.id]
        return [cancel, self._dispatch(tracked, shadow, DispatchWhy.MOVED, now)]

    def _reschedule(self, now: float) -> list[Action]:
        """Asks the policy who should move, and looks at each proposal again."""
        if self._rescheduling is None or now < self._reschedule_s:
            return []
        self._reschedule_s = now + self._rescheduling.period_s
        actions: list[Action] = []
        for model, shadows in self._models.items():
            hosts = [*shadows, *self._decoders.get(model, ())]
            if len(hosts) > 1:
                for move in self._rescheduling.propose(hosts, now):
                    actions += self._move(move, now)
        return actions

    def _move(self, move: Move, now: float) -> list[Action]:
        """Nothing, where it has become pointless or impossible since it was proposed."""
        tracked = self._requests.get(move.request)
        target = self._instances.get(move.target)
        if (
            tracked is None
            or target is None
            or tracked.instance != move.source
            or tracked.is_moving
            or tracked.moves >= self._limits.max_moves
            or move.target == move.source
            or target.spec.model != tracked.request.model
            or target.id in tracked.too_long_for
        ):
            return []
        if self._instances[move.source].decodes(tracked.request.id):
            if target.role is Role.PREFILL or not target.takes(tracked.context_tokens):
                return []
            tracked.moves += 1
            return [self.handoffs.begin(tracked, target, move.why, now)]
        if not target.has_room or target.role is Role.DECODE:
            return []
        tracked.moves += 1
        cancel = Cancel(move.source, move.request, tracked.attempt, CancelWhy.SUPERSEDED)
        self._leave(tracked)
        return [cancel, self._dispatch(tracked, target, DispatchWhy.MOVED, now)]

    # ---------------------------------------------------------------- placing

    def _candidates(self, request: Request) -> list[Shadow]:
        """Instances that could take the request now."""
        return [shadow for shadow in self._who_begins(request.model) if shadow.has_room]

    def _who_begins(self, model: str) -> Sequence[Shadow]:
        """Instances to which requests are sent: where nobody else is left, those that else only
        take over."""
        return self._models[model] or self._decoders.get(model, ())

    def may_begin(self, model: str, shadow: Shadow) -> bool:
        """Whether requests for this model are sent to this instance."""
        return shadow in self._who_begins(model)

    def _candidates_for(self, tracked: Tracked) -> list[Shadow]:
        """The same, without those that have said that it is too long for them."""
        candidates = self._candidates(tracked.request)
        if tracked.too_long_for:
            return [shadow for shadow in candidates if shadow.id not in tracked.too_long_for]
        return candidates

    def _fits_nowhere(self, tracked: Tracked) -> bool:
        shadows = self._who_begins(tracked.request.model)
        return all(shadow.id in tracked.too_long_for for shadow in shadows)

    def _place(
        self, tracked: Tracked, why: DispatchWhy, now: float, candidates: list[Shadow]
    ) -> list[Action]:
        """Sends a request to the best candidate; without one it queues."""
        if not candidates:
            tracked.instance = None
            tracked.queued_s = now
            tracked.refused.clear()
            # One that is mid-stream has a client who is waiting for the next word.
            (self._queue.appendleft if tracked.produced else self._queue.append)(tracked)
            return []
        best = self._routing.rank(tracked.request, candidates, now)[0]
        shadow = self._instances[best.id]
        if tracked.attempt == 0:
            self._predict(tracked, shadow, now)
        return [self._dispatch(tracked, shadow, why, now)]

    def _dispatch(self, tracked: Tracked, shadow: Shadow, why: DispatchWhy, now: float) -> Dispatch:
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

    def _place_again(self, tracked: Tracked, why: DispatchWhy, now: float) -> list[Action]:
        """A request that was accepted, and perhaps streams already, needs another instance."""
        given_up = self.handoffs.abandon(tracked)
        return given_up + self._place_anew(tracked, why, now)

    def _place_anew(self, tracked: Tracked, why: DispatchWhy, now: float) -> list[Action]:
        if tracked.instance is not None:
            self._leave(tracked)
        if len(tracked.produced) >= tracked.request.max_tokens:
            # Only the word that it had finished was lost.
            return self._complete(tracked, Outcome.FINISHED, CompleteWhy.ENDED, FinishReason.LENGTH)
        tracked.refused.clear()
        return self._place(tracked, why, now, self._candidates_for(tracked))

    def _place_queued(self, now: float) -> list[Action]:
        """Gives queued requests to instances that have room again, oldest first."""
        if not self._queue:
            return []
        actions: list[Action] = []
        blocked: list[Tracked] = []
        full: dict[str, None] = {}
        while self._queue and len(full) < len(self._models):
            tracked = self._queue.popleft()
            model = tracked.request.model
            candidates = [] if model in full else self._candidates_for(tracked)
            if candidates:
                actions += self._place(tracked, DispatchWhy.QUEUED, now, candidates)
                continue
            blocked.append(tracked)
            if not tracked.too_long_for:
                full[model] = None
        self._queue.extendleft(reversed(blocked))
        return actions

    def _leave(self, tracked: Tracked) -> None:
        """The request is not at its instance any more."""
        shadow = self._instances.get(tracked.instance) if tracked.instance else None
        if shadow is not None:
            shadow.release(tracked.request.id, tracked.context_tokens)
        tracked.instance = None

    # ---------------------------------------------------------------- hand-offs

    def _hand_off_prefilled(self, tracked: Tracked, now: float) -> list[Action]:
        """Its prompt is computed, and its instance is there for prompts: it decodes where there
        is room, or here until there is."""
        decoders = [
            s for s in self._decoders[tracked.request.model] if s.takes(tracked.context_tokens)
        ]
        if not decoders:
            return []
        best = self._routing.rank(tracked.request, decoders, now)[0]
        target = self._instances[best.id]
        return [self.handoffs.begin(tracked, target, HandoffWhy.PREFILL_DONE, now)]

    def _handed_off(self, event: HandedOff, now: float) -> list[Action]:
        tracked = self._current(event.instance, event.request, event.attempt)
        if tracked is None or tracked.moving is None:
            return []  # The target's tokens have said so before.
        if not event.done:
            return self.handoffs.abandon(tracked) + self._place_queued(now)
        moving = self.handoffs.switch(tracked, now)
        accepted: list[TokenRow] = []
        actions = self._catch_up(tracked, moving, accepted, now)
        if accepted:
            actions.insert(0, Deliver(accepted))
        return actions + self._place_queued(now)

    def _comes_next(self, tracked: Tracked, row: TokenRow, now: float) -> bool:
        """Whether tokens of a hand-off's target follow on what was delivered: then it has taken
        over. Those that came before the source's last ones are kept."""
        moving = tracked.moving
        assert moving is not None
        if row.start == len(tracked.produced) and not moving.ahead:
            self.handoffs.switch(tracked, now)
            return True
        if row.start >= len(tracked.produced):
            moving.ahead.append(row)
        return False

    def _take_ahead(self, tracked: Tracked, accepted: list[TokenRow], now: float) -> list[Action]:
        """The source has brought what was missing before the target's first token."""
        assert tracked.moving is not None
        ahead = tracked.moving.ahead
        if not ahead or ahead[0].start != len(tracked.produced):
            return []
        return self._catch_up(tracked, self.handoffs.switch(tracked, now), accepted, now)

    def _catch_up(
        self, tracked: Tracked, moving: Moving, accepted: list[TokenRow], now: float
    ) -> list[Action]:
        """What the target said too early is heard now."""
        actions: list[Action] = []
        for row in moving.ahead:
            if tracked.attempt == moving.attempt and tracked.instance is not None:
                actions += self._take(tracked, row, accepted, now)
        for event in moving.later:
            actions += self._handlers[type(event)](event, now)
        return actions

    def _current_or_next(
        self, instance: InstanceId, request: RequestId, attempt: int, event: Event, now: float
    ) -> Tracked | None:
        """The request, if this is the attempt that counts, or that of a hand-off's target and all
        that the source made is here."""
        tracked = self._requests.get(request)
        if tracked is not None and self.handoffs.comes_next(tracked, instance, attempt, event):
            self.handoffs.switch(tracked, now)
        return self._current(instance, request, attempt)

    # ---------------------------------------------------------------- ending

    def _current(self, instance: InstanceId, request: RequestId, attempt: int) -> Tracked | None:
        """The request, if this is the attempt that counts."""
        tracked = self._requests.get(request)
        if tracked is None or tracked.instance != instance or tracked.attempt != attempt:
            return None
        return tracked

    def _complete(
        self,
        tracked: Tracked,
        outcome: Outcome,
        why: CompleteWhy,
        reason: FinishReason | None = None,
        cached_tokens: int = 0,
    ) -> list[Action]:
        given_up = self.handoffs.abandon(tracked)
        self._forget(tracked)
        complete = Complete(tracked.request.id, outcome, reason, why, cached_tokens)
        return [complete, *given_up]

    def _give_up(self, tracked: Tracked, reject: RejectWhy, fail: CompleteWhy) -> list[Action]:
        """Ends a request that cannot be placed: a rejection as long as nothing was delivered."""
        if tracked.produced:
            return self._complete(tracked, Outcome.FAILED, fail)
        self._forget(tracked)
        retry_after_s = None if reject is RejectWhy.TOO_LONG else self._queue_wait_s()
        return [Reject(tracked.request.id, reject, retry_after_s)]

    def _forget(self, tracked: Tracked) -> None:
        if tracked.instance is None:
            if tracked in self._queue:
                self._queue.remove(tracked)
        else:
            self._leave(tracked)
        del self._requests[tracked.request.id]

    def _queue_wait_s(self) -> float:
        """When a place will probably be free: the backlog of the least loaded instance, shared by
        all who queue already."""
        waits = [shadow.backlog_s() for shadow in self._instances.values()]
        if not waits:
            return self._limits.max_queued_s
        return min(waits) * (1 + len(self._queue) / len(waits))

    def check_invariants(self) -> None:
        """Requests are conserved and have one owner: invariants 1 and 4."""
        queued = list(self._queue)
        assert len({id(tracked) for tracked in queued}) == len(queued), "queued twice"
        for tracked in queued:
            assert tracked.instance is None, f"{tracked!r} is queued and placed"
            assert self._requests.get(tracked.request.id) is tracked, f"{tracked!r} is unknown"
        for tracked in self._requests.values():
            if tracked.instance is None:
                assert tracked in self._queue, f"{tracked!r} is nowhere"
            else:
                shadow = self._instances.get(tracked.instance)
                assert shadow is not None, f"{tracked!r} is on an instance that is gone"
                known = shadow.attempts.get(tracked.request.id)
                assert known == tracked.attempt, f"{shadow.id} does not know {tracked!r}"
        for shadow in self._instances.values():
            shadow.check_invariants(self._requests)
