"""Gives instances roles at random: the floor of every comparison, and what breaks hand-offs if
anything.

Rule: each round, one instance gets a role that is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from fairlead.model import HostView, InstanceId, RequestView, Role
from fairlead.policies.registry import roles


@dataclass(frozen=True, slots=True)
class Params:
    period_s: float = 1.0

    def __post_init__(self) -> None:
        if self.period_s < 0:
            raise ValueError("period_s must be at least 0")


@roles("random-roles", Params)
class RandomRoles:
    def __init__(self, params: Params, rng: Random) -> None:
        self.period_s = params.period_s
        self._rng = rng

    def assign(self, hosts: Sequence[HostView], now: float) -> Mapping[InstanceId, Role]:
        if not hosts:
            return {}
        return {self._rng.choice(hosts).id: self._rng.choice(list(Role))}

    def decoders(
        self, request: RequestView, here: HostView, others: Sequence[HostView], now: float
    ) -> Sequence[HostView]:
        return [self._rng.choice([here, *others])]
