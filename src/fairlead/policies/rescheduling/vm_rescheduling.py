"""The few hand-offs that, together, make the fleet's memory loads most even for what they cost.

Paper: "Towards VM Rescheduling Optimization Through Deep Reinforcement Learning", 2025.
Rule:  the cost of a fleet is, summed over instances, the square of the memory load, and
       `overload_cost` times what memory load or batch exceed `full`; each hand-off adds `move_cost`
       and `move_cost_per_s` times its duration. A search over sequences of hand-offs, `width` plans
       at each depth (1 is greedy), proposes the plan of least cost.

The paper moves virtual machines between hosts and asks for whole free cores; cost of overload and
of migration follow "A Meta-Heuristic Load Balancer for Cloud Computing Systems". Its number of
moves is 2 to 3 % of the machines; its five seconds are so many evaluations here, since a policy
reads no clock. The numbers of the cost are ours. Its learnt policy is left out, and so are requests
that have not begun.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from random import Random

from fairlead.model import HandoffWhy, HostView, InstanceId, PlacedView, Role
from fairlead.policies.registry import rescheduling
from fairlead.policies.rescheduling.beam import Search
from fairlead.policies.rescheduling.dwell import Dwell
from fairlead.policies.rescheduling.parts import Move

DRAINING_COST = 10.0
"""For each sequence on an instance that drains: more than any balance is worth."""


@dataclass(frozen=True, slots=True)
class Params:
    period_s: float = 5.0
    width: int = 4
    """Plans kept at each depth; 1 is greedy."""
    evaluations: int = 2000
    """Hand-offs looked at in a round, at most."""
    move_fraction: float = 0.03
    """Of the sequences that decode, how many may move in a round; at least one."""
    moves: int = 8
    """The same, as a number."""
    slots: int = 4
    """Hand-offs that an instance takes part in at a time."""
    full: float = 0.9
    """Load above which an instance is overloaded, as a fraction of its memory or its batch."""
    overload_cost: float = 10.0
    """For exceeding `full` by all of an instance; an even load of 1 on it costs 1."""
    move_cost: float = 0.001
    """Least gain that is worth a hand-off, in the same unit."""
    move_cost_per_s: float = 0.01
    """The same for each second that it takes."""
    dwell_s: float = 10.0
    """For so long what moved stays, and nothing moves between the same two the other way."""

    def __post_init__(self) -> None:
        if self.period_s <= 0:
            raise ValueError(f"period_s must be positive, got {self.period_s}")
        if min(self.width, self.evaluations, self.moves, self.slots) < 1:
            raise ValueError("width, evaluations, moves and slots must be at least 1")
        if not (0 < self.move_fraction <= 1 and 0 < self.full <= 1):
            raise ValueError("move_fraction and full must be above 0 and at most 1")
        costs = (self.overload_cost, self.move_cost, self.move_cost_per_s, self.dwell_s)
        if min(costs) < 0:
            raise ValueError(
                "overload_cost, move_cost, move_cost_per_s and dwell_s must be at least 0"
            )


@rescheduling("vm-rescheduling", Params)
class VmRescheduling:
    def __init__(self, params: Params, rng: Random) -> None:
        self.period_s = params.period_s
        self._params = params
        self._dwell = Dwell(params.dwell_s)

    def propose(self, hosts: Sequence[HostView], now: float) -> list[Move]:
        params = self._params
        self._dwell.forget(now)
        # What prefills hands everything off anyway.
        able = [host for host in hosts if host.role is not Role.PREFILL]
        search = Search(able, self._price, self._move_cost, self._allowed, params.slots)
        decoding = sum(len(host.decoding) for host in able)
        moves = min(ceil(params.move_fraction * decoding), params.moves)
        plan = search.best(moves, params.width, params.evaluations)
        return [
            self._dwell.note(_move(step.placed, able[step.source], able[step.target]), now)
            for step in plan.steps
        ]

    def _price(self, host: HostView, blocks: float, sequences: int) -> float:
        if host.draining:
            return DRAINING_COST * sequences
        load, crowd = blocks / host.total_blocks, sequences / host.max_sequences
        over = max(load - self._params.full, 0.0) + max(crowd - self._params.full, 0.0)
        return load * load + self._params.overload_cost * over

    def _move_cost(self, source: HostView, placed: PlacedView) -> float:
        took_s = source.handoff_s(placed.context_tokens)
        return self._params.move_cost + self._params.move_cost_per_s * took_s

    def _allowed(self, placed: PlacedView, source: InstanceId, target: InstanceId) -> bool:
        return not self._dwell.holds(placed.request.id) and not self._dwell.swaps(source, target)


def _move(placed: PlacedView, source: HostView, target: HostView) -> Move:
    why = HandoffWhy.DRAIN if source.draining else HandoffWhy.REBALANCE
    return Move(placed.request.id, source.id, target.id, why)
