"""The Fleet: all instances as seen from outside, the requests under way, and every decision above
one instance. Facts in, actions out.

It reads no clock, opens nothing and draws no randomness it was not given. Equal state and equal
events give equal actions. Every accepted request ends exactly once, with `Complete` or `Reject`;
every token position of a request is delivered exactly once, in order, whatever happens to the
instances that make them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any

from fairlead.fleet.filling import Filling
from fairlead.fleet.handoffs import Handoffs, is_expected
from fairlead.fleet.lengths import OutputLengths
from fairlead.fleet.limits import Limits
from fairlead.fleet.moves import Moves
from fairlead.fleet.placement import Placement
from fairlead.fleet.pools import Pool, PoolBounds
from fairlead.fleet.prefix_index import PrefixIndex
from fairlead.fleet.present import Present
from fairlead.fleet.roles import Roles
from fairlead.fleet.roster import Roster
from fairlead.fleet.shadow import Shadow
from fairlead.fleet.tracked import Moving, Tracked
from fairlead.model import (
    Action,
    Arrived,
    Cancel,
    Cancelled,
    CancelWhy,
    CompleteWhy,
    Deliver,
    DispatchWhy,
    Draining,
    Event,
    Finished,
    HandedOff,
    InstanceDown,
    InstanceId,
    InstanceUp,
    InstanceView,
    Leaving,
    Outcome,
    Preempted,
    Refused,
    RefuseWhy,
    Reject,
    RejectWhy,
    Report,
    Reported,
    RequestId,
    Resized,
    Role,
    SetRole,
    TellCache,
    Tick,
    TokenRow,
    Tokens,
    Unplaced,
)
from fairlead.policies.admission import AdmissionPolicy
from fairlead.policies.fairness import FairnessPolicy, none
from fairlead.policies.rescheduling import ReschedulingPolicy
from fairlead.policies.roles import RolesPolicy
from fairlead.policies.routing import RoutingPolicy
from fairlead.policies.scaling import ScalingPolicy


class Fleet:
    """See the module. One event at a time through `handle`; times never run back."""

    def __init__(
        self,
        routing: RoutingPolicy,
        admission: AdmissionPolicy,
        limits: Limits | None = None,
        models: Iterable[str] = (),
        rescheduling: ReschedulingPolicy | None = None,
        roles: RolesPolicy | None = None,
        pools: Iterable[tuple[PoolBounds, ScalingPolicy | None]] = (),
        fairness: FairnessPolicy | None = None,
    ) -> None:
        """`models` are those that pools promise: requests for them wait for the first instance."""
        self._admission = admission
        self._limits = limits or Limits()
        self._roster = Roster(models)
        self.prefix_index = PrefixIndex()
        self.handoffs = Handoffs(self._roster.by_id)
        self.lengths = OutputLengths()
        self._placement = Placement(
            self._roster,
            self.handoffs,
            routing,
            admission,
            fairness or none.OneQueue(none.Params(), Random(0)),
            self.lengths,
            self._limits,
        )
        self._requests = self._placement.requests
        self._roles = Roles(self._roster, roles)
        self._moves = Moves(
            self._roster,
            self._placement,
            self.handoffs,
            self._roles,
            routing,
            rescheduling,
            self._limits,
        )
        queue = self._placement.queue
        self.pools = {bounds.name: Pool(bounds, scaling, queue) for bounds, scaling in pools}
        self._draining = False
        self._present = Present()
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
            Leaving: self._leaving,
            Draining: self._drain,
            Resized: self._resized,
            Unplaced: self._unplaced,
            Tick: self._tick,
        }

    @property
    def requests(self) -> Mapping[RequestId, Tracked]:
        """Everything under way, in order of arrival."""
        return self._requests

    @property
    def instances(self) -> Mapping[InstanceId, Shadow]:
        return self._roster.by_id

    @property
    def n_queued(self) -> int:
        return len(self._placement.queue)

    @property
    def draining(self) -> bool:
        return self._draining

    def spare(self, model: str, filling: Filling) -> int:
        """How many more requests without a time of their own it takes now, as far as it knows."""
        if self._draining or not self._roster.serves(model):
            return 0
        return filling.room(self._roster.beginners(model), self.n_queued)

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
        if not self._roster.serves(request.model):
            return [Reject(request.id, RejectWhy.NO_INSTANCE, None)]
        placement = self._placement
        n_before = placement.n_before(request)
        candidates = placement.candidates(request, n_before)
        asked = self._asked(candidates) if candidates else placement.later(request, n_before, now)
        retry_after_s = self._admission.retry_after_s(request, asked, now)
        if retry_after_s is not None:
            return [Reject(request.id, RejectWhy.NO_HEADROOM, retry_after_s)]
        others: list[Action] = []
        if not candidates and placement.is_full(request.model):
            others = placement.make_room(request)
            if not others:
                return [Reject(request.id, RejectWhy.QUEUE_FULL, placement.queue_wait_s())]
        for pool in self.pools.values():
            if pool.policy is not None and pool.model == request.model:
                pool.policy.arrived(request, now)
        return others + placement.accept(request, candidates, DispatchWhy.ROUTED, now)

    def _asked(self, candidates: list[Shadow]) -> Sequence[InstanceView]:
        """Whom admission looks at: those who would begin the request, and those who would take it
        over."""
        if candidates[0].role is Role.DECODE:
            return candidates
        takers = self._roster.takers(candidates[0].spec.model)
        return [*candidates, *takers] if takers else candidates

    def _cancelled(self, event: Cancelled, now: float) -> list[Action]:
        tracked = self._requests.get(event.request)
        if tracked is None:
            return []
        slow = event.why is CancelWhy.CLIENT_SLOW
        why = CompleteWhy.CLIENT_SLOW if slow else CompleteWhy.CLIENT_LEFT
        actions: list[Action] = []
        if tracked.instance is not None:
            actions.append(Cancel(tracked.instance, event.request, tracked.attempt, event.why))
        actions += self._placement.complete(tracked, Outcome.CANCELLED, why)
        return actions + self._placement.place_queued(now)

    # ---------------------------------------------------------------- instances' news

    def _tokens(self, event: Tokens, now: float) -> list[Action]:
        accepted: list[TokenRow] = []
        actions: list[Action] = []
        shadow = self._roster.by_id.get(event.instance)
        if shadow is None:
            return []
        had_room, n_moved = shadow.has_room, self.handoffs.n_done
        n_waited = shadow.waiting
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
        if self.n_queued and (
            # Whoever begins to decode leaves the instance's queue; whoever moved left a place.
            (shadow.has_room and not had_room)
            or self.handoffs.n_done > n_moved
            or (self._placement.holding.active and shadow.waiting < n_waited)
            or _changes_roles(actions)
        ):
            actions += self._placement.place_queued(now)
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
            shadow = self._roster.by_id[instance]
            begins = shadow.first_token(row.request, tracked.context_tokens)
            if tracked.first_token_s is None:
                tracked.first_token_s = now
                if tracked.choices is not None and not tracked.choices.begun:
                    self._placement.call_begins(tracked.choices)
            if tracked.moving is not None:
                return self._take_ahead(tracked, accepted, now)
            if begins and shadow.role is Role.PREFILL:
                return self._moves.prefilled(tracked, now)
        elif row.start > len(produced):
            # Tokens were lost on the way. The instance cannot send them again; another attempt
            # makes the same ones.
            lost = Cancel(instance, row.request, row.attempt, CancelWhy.SUPERSEDED)
            return [lost, *self._placement.place_again(tracked, DispatchWhy.LOST_ON_THE_WAY, now)]
        return []

    def _finished(self, event: Finished, now: float) -> list[Action]:
        tracked = self._current_or_next(event.instance, event.request, event.attempt, event, now)
        if tracked is None:
            return []
        if event.n_produced is not None and len(tracked.produced) < event.n_produced:
            # Its last tokens were lost on the way; another attempt makes the same ones.
            again = self._placement.place_again(tracked, DispatchWhy.LOST_ON_THE_WAY, now)
            return again + self._placement.place_queued(now)
        self.lengths.add(len(tracked.produced))
        actions = self._placement.complete(
            tracked, Outcome.FINISHED, CompleteWhy.ENDED, event.reason, event.cached_tokens
        )
        return actions + self._placement.place_queued(now)

    def _preempted(self, event: Preempted, now: float) -> list[Action]:
        tracked = self._placement.current(event.instance, event.request, event.attempt)
        if tracked is not None:
            self._roster.by_id[event.instance].preempted(event.request, tracked.context_tokens)
        return []

    def _refused(self, event: Refused, now: float) -> list[Action]:
        tracked = self._placement.current(event.instance, event.request, event.attempt)
        if tracked is None:
            return []
        self._placement.leave(tracked)
        tracked.refused[event.instance] = None
        tracked.said = event.said
        if event.why is RefuseWhy.FAILED:
            return self._failed(tracked, now)
        if event.why is RefuseWhy.DRAINING:
            self._roster.by_id[event.instance].leave()
        elif event.why is not RefuseWhy.QUEUE_FULL:
            tracked.unfit[event.instance] = event.why
        actions = self._elsewhere(tracked, now)
        # An instance that is full has no room for others either, whatever its shadow says.
        full = event.why is RefuseWhy.QUEUE_FULL
        return actions if full else actions + self._placement.place_queued(now)

    def _failed(self, tracked: Tracked, now: float) -> list[Action]:
        """Like the death of an instance, for this request alone: it goes on elsewhere, or here
        again, but not at once."""
        tracked.deaths += 1
        tracked.queued_s = now
        if tracked.deaths > self._limits.max_deaths:
            return self._placement.complete(tracked, Outcome.FAILED, CompleteWhy.INSTANCES_LOST)
        return self._elsewhere(tracked, now)

    def _elsewhere(self, tracked: Tracked, now: float) -> list[Action]:
        """An instance would not have it: another gets it, or it waits, or nobody ever will."""
        candidates = self._placement.candidates_for(tracked)
        others = [view for view in candidates if view.id not in tracked.refused]
        if not others and not self._placement.who_may_begin(tracked):
            return self._placement.give_up_unfit(tracked)
        return self._placement.place(tracked, DispatchWhy.REFUSED_ELSEWHERE, now, others)

    def _reported(self, event: Reported, now: float) -> list[Action]:
        report = event.report
        shadow = self._roster.by_id.get(report.instance)
        if shadow is None or (shadow.report and report.as_of_s < shadow.report.as_of_s):
            return []
        inside = dict(report.requests)
        shadow.correct(report, inside)
        actions = [] if inside == shadow.attempts else self._settle(shadow, report, inside, now)
        if shadow.prefixes.must_ask(now):
            actions.append(TellCache(shadow.id))
        return actions + self._placement.place_queued(now)

    def _settle(
        self, shadow: Shadow, report: Report, inside: Mapping[RequestId, int], now: float
    ) -> list[Action]:
        """The report and the ledger do not agree: something is on its way, or was lost there."""
        actions: list[Action] = [
            Cancel(report.instance, id, attempt, CancelWhy.SUPERSEDED)
            for id, attempt in report.requests
            if self._placement.current(report.instance, id, attempt) is None
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
            actions += self._placement.place_again(tracked, DispatchWhy.LOST_ON_THE_WAY, now)
        return actions

    def _instance_up(self, event: InstanceUp, now: float) -> list[Action]:
        spec = event.spec
        actions: list[Action] = []
        present = self._roster.by_id.get(spec.id)
        if present is not None:
            if present.spec.incarnation == spec.incarnation:
                return []
            actions += self._instance_down(InstanceDown(spec.id, "restarted"), now)
        shadow = Shadow(spec, self.lengths, self._present, self._requests, self.prefix_index)
        self._roster.add(shadow)
        if spec.pool in self.pools:
            self.pools[spec.pool].came(shadow, now)
        return actions + self._placement.place_queued(now)

    def _instance_down(self, event: InstanceDown, now: float) -> list[Action]:
        gone = self._roster.remove(event.instance)
        if gone is None:
            return []
        gone.prefixes.leave()
        if gone.spec.pool in self.pools:
            self.pools[gone.spec.pool].went(event.instance)
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
                actions += self._placement.complete(
                    tracked, Outcome.FAILED, CompleteWhy.INSTANCES_LOST
                )
            else:
                actions += self._placement.place_again(tracked, DispatchWhy.INSTANCE_LOST, now)
        # Where nobody is left who begins requests, those who else only take over do.
        return actions + self._placement.place_queued(now)

    def _leaving(self, event: Leaving, now: float) -> list[Action]:
        """What it holds goes elsewhere as far as there is room, now or later; what finds none ends
        there, or goes on elsewhere when the instance is gone."""
        shadow = self._roster.by_id.get(event.instance)
        if shadow is None:
            return []
        shadow.leave()
        return self._moves.empty(shadow, now) + self._placement.place_queued(now)

    # ---------------------------------------------------------------- time

    def _drain(self, event: Draining, now: float) -> list[Action]:
        self._draining = True
        return []

    def _tick(self, event: Tick, now: float) -> list[Action]:
        actions = self._placement.give_up_overdue(now)
        actions += self._roles.assign(now)
        actions += self._placement.place_queued(now)
        prefilled = self._moves.prefilled_before(now)
        actions += prefilled
        for shadow in [shadow for shadow in self._roster.by_id.values() if shadow.leaving]:
            actions += self._moves.empty(shadow, now)
        for pool in self.pools.values():
            pool.ask(now)
            actions += self._rebalance(pool, now)
        moves = self._moves.reschedule(now)
        actions += moves
        if moves or _changes_roles(prefilled):
            actions += self._placement.place_queued(now)
        return actions

    def _resized(self, event: Resized, now: float) -> list[Action]:
        pool = self.pools.get(event.pool)
        if pool is None or event.n < 0:
            return []
        pool.resize(event.n)
        return self._rebalance(pool, now)

    def _unplaced(self, event: Unplaced, now: float) -> list[Action]:
        pool = self.pools.get(event.pool)
        if pool is None or event.n < 0:
            return []
        pool.unplaced(event.n, now)
        return self._rebalance(pool, now)

    def _rebalance(self, pool: Pool, now: float) -> list[Action]:
        """Starts instances, or empties them: what has begun is handed off, what has not is sent
        anew. Who finds no place now stays, and is tried again."""
        actions = pool.balance(now)
        for shadow in pool.retiring:
            actions += self._moves.empty(shadow, now)
        return actions + pool.stop_empty() + self._placement.place_queued(now)

    # ---------------------------------------------------------------- hand-offs

    def _handed_off(self, event: HandedOff, now: float) -> list[Action]:
        tracked = self._placement.current(event.instance, event.request, event.attempt)
        if tracked is None or tracked.moving is None:
            return []  # The target's tokens have said so before.
        if not event.done:
            return self.handoffs.abandon(tracked) + self._placement.place_queued(now)
        moving = self.handoffs.switch(tracked, now)
        accepted: list[TokenRow] = []
        actions = self._catch_up(tracked, moving, accepted, now)
        if accepted:
            actions.insert(0, Deliver(accepted))
        return actions + self._placement.place_queued(now)

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
        return self._placement.current(instance, request, attempt)

    def may_begin(self, tracked: Tracked, shadow: Shadow) -> bool:
        """Whether this instance, with room, is one that the request is sent to at once. One that is
        held back waits for its turn where others wait, too, be it there or somewhere better."""
        takers = self._placement.who_may_begin(tracked)
        held = self._placement.holding.active and not tracked.call_has_begun
        return shadow in takers and not (held and any(other.waiting for other in takers))

    def check_invariants(self) -> None:
        """Requests are conserved and have one owner, and every shadow adds up."""
        self._placement.check_invariants()
        for shadow in self._roster.by_id.values():
            shadow.check_invariants(self._requests)
        held = {s.prefixes.slot: s.prefixes.names for s in self._roster.by_id.values()}
        self.prefix_index.check_invariants(held)


def _changes_roles(actions: Sequence[Action]) -> bool:
    """Who is too long for all that begin requests may wait for one that does not any more: it is
    sent to those that only take over where nobody is left who could begin it."""
    return any(isinstance(action, SetRole) for action in actions)
