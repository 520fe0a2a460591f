"""Who moves from one instance to another, and where to: what is prefilled, what a rescheduling
policy proposes, and whatever is on an instance that is being emptied.

What has begun to decode is handed off with its KV; what still waits is sent anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.fleet.handoffs import Handoffs
from fairlead.fleet.limits import Limits
from fairlead.fleet.placement import Placement
from fairlead.fleet.roles import Roles
from fairlead.fleet.roster import Roster
from fairlead.fleet.shadow import Shadow
from fairlead.fleet.tracked import Tracked
from fairlead.model import Action, Cancel, CancelWhy, DispatchWhy, HandoffWhy, Role
from fairlead.policies.rescheduling import Move, ReschedulingPolicy
from fairlead.policies.routing import RoutingPolicy


class Moves:
    """Begins moves. `Handoffs` sees each to its end."""

    def __init__(
        self,
        roster: Roster,
        placement: Placement,
        handoffs: Handoffs,
        roles: Roles,
        routing: RoutingPolicy,
        rescheduling: ReschedulingPolicy | None,
        limits: Limits,
    ) -> None:
        self._roster = roster
        self._placement = placement
        self._handoffs = handoffs
        self._roles = roles
        self._routing = routing
        self._rescheduling = rescheduling
        self._reschedule_s = float("-inf")
        """When it is to be asked next."""
        self._limits = limits

    # ---------------------------------------------------------------- prefill to decode

    def prefilled(self, tracked: Tracked, now: float) -> list[Action]:
        """Its prompt is computed, and its instance is there for prompts: it decodes where there
        is room, or here until there is."""
        request = tracked.request
        assert tracked.instance is not None, f"{tracked!r} is nowhere"
        here = self._roster.by_id[tracked.instance]
        hosts = self._roster.of(request.model)
        others = [shadow for shadow in hosts if _fits(here, shadow, tracked.context_tokens)]
        takers = self._roles.decoders(request, here, others, now)
        if not takers:
            return []
        target = self._best(tracked, takers, now)
        actions = self._roles.let_decode(target)
        if target is here or target.role is Role.PREFILL:
            return actions
        return [*actions, self._handoffs.begin(tracked, target, HandoffWhy.PREFILL_DONE, now)]

    def prefilled_before(self, now: float) -> list[Action]:
        """The same for all that found no room at the time."""
        actions: list[Action] = []
        for shadow in self._roster.by_id.values():
            if shadow.role is Role.PREFILL:
                for tracked in shadow.decoding:
                    if not tracked.is_moving:
                        actions += self.prefilled(tracked, now)
        return actions

    def _best(self, tracked: Tracked, takers: Sequence[Shadow], now: float) -> Shadow:
        if len(takers) == 1:
            return takers[0]
        best = self._routing.rank(tracked.request, takers, now)[0]
        return self._roster.by_id[best.id]

    # ---------------------------------------------------------------- instances that empty

    def empty(self, source: Shadow, now: float) -> list[Action]:
        """Everything on it goes elsewhere. What finds no place now stays, and is tried again."""
        actions: list[Action] = []
        for tracked in (*source.queue, *source.decoding):
            if not tracked.is_moving:
                actions += self._move_away(tracked, source, now)
        return actions

    def _move_away(self, tracked: Tracked, source: Shadow, now: float) -> list[Action]:
        request = tracked.request
        if source.decodes(request.id):
            hosts = self._roster.decoders(request.model) or self._roster.of(request.model)
            takers = [host for host in hosts if _fits(source, host, tracked.context_tokens)]
            if not takers:
                return []
            target = self._best(tracked, takers, now)
            return [self._handoffs.begin(tracked, target, HandoffWhy.DRAIN, now)]
        others = self._placement.candidates_for(tracked)
        return self._send_anew(tracked, self._best(tracked, others, now), now) if others else []

    def _send_anew(self, tracked: Tracked, target: Shadow, now: float) -> list[Action]:
        source = tracked.instance
        assert source is not None, f"{tracked!r} is nowhere"
        cancel = Cancel(source, tracked.request.id, tracked.attempt, CancelWhy.SUPERSEDED)
        self._placement.leave(tracked)
        return [cancel, self._placement.dispatch(tracked, target, DispatchWhy.MOVED, now)]

    # ---------------------------------------------------------------- proposals

    def reschedule(self, now: float) -> list[Action]:
        """Asks the policy who should move, and looks at each proposal again."""
        if self._rescheduling is None or now < self._reschedule_s:
            return []
        self._reschedule_s = now + self._rescheduling.period_s
        actions: list[Action] = []
        for model in self._roster.models:
            hosts = self._roster.of(model)
            if len(hosts) > 1:
                for move in self._rescheduling.propose(hosts, now):
                    actions += self._carry_out(move, now)
        return actions

    def _carry_out(self, move: Move, now: float) -> list[Action]:
        """Nothing, where it has become pointless or impossible since it was proposed."""
        tracked = self._placement.requests.get(move.request)
        target = self._roster.by_id.get(move.target)
        if tracked is None or target is None or not self._is_sound(move, tracked, target):
            return []
        source = self._roster.by_id[move.source]
        if source.decodes(move.request):
            if target.role is Role.PREFILL or not _fits(source, target, tracked.context_tokens):
                return []
            tracked.moves += 1
            return [self._handoffs.begin(tracked, target, move.why, now)]
        if not target.has_room or target.role is Role.DECODE:
            return []
        tracked.moves += 1
        return self._send_anew(tracked, target, now)

    def _is_sound(self, move: Move, tracked: Tracked, target: Shadow) -> bool:
        return (
            tracked.instance == move.source
            and not tracked.is_moving
            and tracked.moves < self._limits.max_moves
            and move.target != move.source
            and target.spec.model == tracked.request.model
            and target.id not in tracked.unfit
        )


def _fits(source: Shadow, target: Shadow, context_tokens: int) -> bool:
    """Whether the target has room for a sequence of this context, and KV of the same size."""
    alike = source.spec.kv_bytes_per_token == target.spec.kv_bytes_per_token
    return alike and source is not target and target.takes(context_tokens)
