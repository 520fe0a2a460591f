"""Carries out what a roles policy decides: who begins requests, and who decodes them."""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.fleet.roster import Roster
from fairlead.fleet.shadow import Shadow
from fairlead.model import Action, RequestView, Role, SetRole
from fairlead.policies.roles import RolesPolicy
from fairlead.policies.roles.parts import assigned


class Roles:
    """Keeps every model with somebody who begins, and somebody who decodes."""

    def __init__(self, roster: Roster, policy: RolesPolicy | None) -> None:
        self._roster = roster
        self._policy = policy
        self._next_s = float("-inf")

    def assign(self, now: float) -> list[Action]:
        """Asks the policy, where it is time to."""
        if self._policy is None or now < self._next_s:
            return []
        self._next_s = now + self._policy.period_s
        actions: list[Action] = []
        for model in self._roster.models:
            for instance, role in self._policy.assign(self._roster.of(model), now).items():
                shadow = self._roster.by_id.get(instance)
                if shadow is not None and shadow.spec.model == model:
                    actions += self._set(shadow, role)
        return actions

    def _set(self, shadow: Shadow, role: Role) -> list[Action]:
        if role is shadow.role or self._is_last(shadow, role):
            return []
        self._roster.set_role(shadow, role)
        return [SetRole(shadow.id, role)]

    def _is_last(self, shadow: Shadow, role: Role) -> bool:
        """Whether nobody else would do what it would not do any more."""
        others = [other.role for other in self._roster.of(shadow.spec.model) if other is not shadow]
        needed = {Role.PREFILL: Role.DECODE, Role.DECODE: Role.PREFILL}.get(role)
        return needed is not None and not {needed, Role.MIXED} & set(others)

    def decoders(
        self, request: RequestView, here: Shadow, others: Sequence[Shadow], now: float
    ) -> list[Shadow]:
        """Who may decode what `here` has prefilled: of `others`, which have room, or `here`."""
        if self._policy is None:
            return [self._roster.by_id[host.id] for host in assigned(others)]
        chosen = self._policy.decoders(request, here, others, now)
        return [self._roster.by_id[host.id] for host in chosen]

    def let_decode(self, shadow: Shadow) -> list[Action]:
        """It is there for prompts, and decodes from now on; where nobody else is there for
        prompts, nothing changes."""
        return self._set(shadow, Role.DECODE) if shadow.role is Role.PREFILL else []
