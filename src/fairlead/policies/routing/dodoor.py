"""Two instances drawn at random, compared by a table of loads that is a few placements old.

Paper: "Dodoor: Efficient Randomized Decentralized Scheduling with Load Caching".
Rule:  of two instances drawn without replacement (of one, with probability 1 − `two`), the lower
       (1 − α)·R + α·D wins: R is the memory in use times the memory wanted, each as a part of the
       instance's, D the requests there; both as shares of the pair's sum. The table is taken anew
       every `refresh` · n placements.

D is the pending work in the paper; here every request counts as one mean duration. KV blocks are
the only resource whose capacity the fleet knows. There is one router, so what several would tell
the store is left out. Two draws never coincide, and each is measured by its own capacity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from fairlead.model import InstanceId, InstanceView, RequestView
from fairlead.policies.registry import routing
from fairlead.policies.routing.parts import draw, n_requests


@dataclass(frozen=True, slots=True)
class Params:
    two: float = 0.75
    """β: probability that two instances are looked at, and not one."""
    pending_weight: float = 0.95
    """α: weight of the requests there against the memory in use."""
    refresh: float = 0.5
    """Placements between two looks at the loads, for each instance. The paper's; its code ships
    1,024 in all, for a hundred machines."""

    def __post_init__(self) -> None:
        if not 0 <= self.two <= 1 or not 0 <= self.pending_weight <= 1:
            raise ValueError("two and pending_weight must be from 0 to 1")
        if self.refresh <= 0:
            raise ValueError(f"refresh must be positive, got {self.refresh}")


class Load(NamedTuple):
    """What the table says of an instance."""

    memory: float
    pending: int


@routing("dodoor", Params)
class Dodoor:
    def __init__(self, params: Params, rng: Random) -> None:
        self._params = params
        self._rng = rng
        self._loads: dict[InstanceId, Load] = {}
        self._placed = 0

    def rank(
        self, request: RequestView, candidates: Sequence[InstanceView], now: float
    ) -> list[InstanceView]:
        two = self._rng.random() < self._params.two
        drawn = draw(candidates, 2 if two else 1, self._rng)
        stale = self._placed >= self._params.refresh * len(candidates)
        if stale or any(view.id not in self._loads for view in drawn):
            self._loads = {view.id: _load(view) for view in candidates}
            self._placed = 0
        self._placed += 1
        return sorted(drawn, key=lambda view: self._score(view, drawn))

    def _score(self, view: InstanceView, drawn: Sequence[InstanceView]) -> float:
        mine, all_of_them = self._loads[view.id], [self._loads[one.id] for one in drawn]
        memory = _share(mine.memory, sum(load.memory for load in all_of_them))
        pending = _share(mine.pending, sum(load.pending for load in all_of_them))
        weight = self._params.pending_weight
        return (1 - weight) * memory + weight * pending


def _load(view: InstanceView) -> Load:
    """The memory wanted is the same on both of a pair and cancels: only its capacity stays."""
    used = view.total_blocks - view.available_blocks
    return Load(used / max(view.total_blocks, 1) ** 2, n_requests(view))


def _share(value: float, total: float) -> float:
    return value / total if total else 0.0
