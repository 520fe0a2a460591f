"""Instances keep the roles that the fleet file gives them.

Rule: no changes; what is prefilled goes to instances for decoding, or where there are none, to
      those that do both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from fairlead.model import HostView, InstanceId, RequestView, Role
from fairlead.policies.registry import roles
from fairlead.policies.roles.parts import assigned


@dataclass(frozen=True, slots=True)
class Params:
    pass


@roles("none", Params)
class NoChanges:
    period_s = float("inf")

    def __init__(self, params: Params, rng: Random) -> None:
        pass

    def assign(self, hosts: Sequence[HostView], now: float) -> Mapping[InstanceId, Role]:
        return {}

    def decoders(
        self, request: RequestView, here: HostView, others: Sequence[HostView], now: float
    ) -> Sequence[HostView]:
        return assigned(others)
