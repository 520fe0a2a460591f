"""Requests stay where they were placed.

Rule: no proposals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from fairlead.model import HostView
from fairlead.policies.registry import rescheduling
from fairlead.policies.rescheduling.parts import Move


@dataclass(frozen=True, slots=True)
class Params:
    pass


@rescheduling("none", Params)
class NoRescheduling:
    period_s = float("inf")

    def __init__(self, params: Params, rng: Random) -> None:
        pass

    def propose(self, hosts: Sequence[HostView], now: float) -> Sequence[Move]:
        return ()
