"""One after the other, whatever they are doing: the baseline of every comparison.

Rule: the k-th request goes to instance k modulo their number, in the order in which they joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from fairlead.model import InstanceView, RequestView
from fairlead.policies.registry import routing


@dataclass(frozen=True, slots=True)
class Params:
    pass


@routing("round-robin", Params)
class RoundRobin:
    def __init__(self, params: Params, rng: Random) -> None:
        self._turn = 0

    def rank(
        self, request: RequestView, candidates: Sequence[InstanceView], now: float
    ) -> list[InstanceView]:
        if not candidates:
            return []
        view = candidates[self._turn % len(candidates)]
        self._turn += 1
        return [view]
