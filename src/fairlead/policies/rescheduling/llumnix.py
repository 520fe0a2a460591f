"""Live migration from instances that run out of memory to those with most of it to spare.

Paper: "Llumnix: Dynamic Scheduling for Large Language Model Serving".
Rule:  sources are instances with a freeness below one threshold, or that preempted since the last
       round; targets those above another that did not. The least free source is paired with the
       freest target, the second with the second; each pair hands off one sequence, of low priority
       first, then by `order`. What drains has a freeness of minus infinity: everything leaves it,
       to the freest, thresholds or not.

Freeness is in `policies/freeness.py`. Defaults are those of the project's first version; `dwell_s`
and `drain_slots` are ours. Left out: moving a request that waits because it failed to be admitted
(`hotspot` moves those by what it gains them).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

from fairlead.model import HostView, InstanceId, PlacedView
from fairlead.policies.freeness import BLOCK_TOKENS, HighPriority, blocks_of, freeness
from fairlead.policies.registry import rescheduling
from fairlead.policies.rescheduling.draining import emptying
from fairlead.policies.rescheduling.dwell import Dwell
from fairlead.policies.rescheduling.parts import Move
from fairlead.policies.rescheduling.room import decodes, fits, settled

ORDERS: dict[str, Callable[[PlacedView], float]] = {
    "SR": lambda placed: placed.context_tokens,
    "LR": lambda placed: -placed.context_tokens,
    "LCR": lambda placed: -placed.request.arrival_s,
}
"""Which running sequence goes: the shortest, the longest, the last to come."""


@dataclass(frozen=True, slots=True)
class Params:
    period_s: float = 0.5
    source_freeness: float = 3.0
    """Instances below it give sequences away; blocks of 16 tokens for each sequence."""
    target_freeness: float = 3.0
    """Instances above it take them; at least `source_freeness`."""
    order: str = "SR"
    """Which goes: SR, the shortest running; LR, the longest; LCR, the last to come."""
    balanced: bool = False
    """Move only what brings the two freenesses closer and leaves the target a target."""
    slots: int = 1
    """Hand-offs that an instance takes part in at a time."""
    drain_slots: int = 4
    """The same for what is handed off from an instance that drains."""
    high_priority: int = -1
    """Requests of this priority or a lower number get headroom."""
    high_load_fraction: float = 0.12
    """Of its memory, what an instance should hold while one of them runs there."""
    dwell_s: float = 5.0
    """For so long what moved stays, and nothing moves between the same two the other way."""

    def __post_init__(self) -> None:
        if self.period_s <= 0 or self.dwell_s < 0:
            raise ValueError("period_s must be positive and dwell_s at least 0")
        if self.target_freeness < self.source_freeness:
            raise ValueError("target_freeness must be at least source_freeness, or pairs swap")
        if self.order not in ORDERS:
            raise ValueError(f"order must be one of {', '.join(ORDERS)}, got {self.order!r}")
        if min(self.slots, self.drain_slots) < 1:
            raise ValueError("slots and drain_slots must be at least 1")
        if not 0 <= self.high_load_fraction <= 1:
            raise ValueError("high_load_fraction must be between 0 and 1")


class Seen(NamedTuple):
    """An instance with its load."""

    host: HostView
    freeness: float
    preempted: bool
    """Since the last round."""


@rescheduling("llumnix", Params)
class Llumnix:
    def __init__(self, params: Params, rng: Random) -> None:
        self.period_s = params.period_s
        self._params = params
        self._high = HighPriority(params.high_priority, params.high_load_fraction)
        self._dwell = Dwell(params.dwell_s)
        self._preemptions: dict[InstanceId, tuple[int, float]] = {}
        """How many there were in the last round, and when that was."""

    def propose(self, hosts: Sequence[HostView], now: float) -> list[Move]:
        self._dwell.forget(now)
        seen = sorted((self._look(host, now) for host in hosts), key=_least_free)
        self._forget_instances(now)
        freest_first = [one.host for one in sorted(seen, key=_freest)]
        moves = emptying(freest_first, self._params.drain_slots, self._in_order)
        for move in moves:
            self._dwell.note(move, now)
        for source, target in self._pairs(seen, {move.target for move in moves}):
            placed = self._choose(source, target)
            if placed is not None:
                move = Move(placed.request.id, source.host.id, target.host.id)
                moves.append(self._dwell.note(move, now))
        return moves

    def _look(self, host: HostView, now: float) -> Seen:
        before, _ = self._preemptions.get(host.id, (host.preemptions, now))
        self._preemptions[host.id] = (host.preemptions, now)
        return Seen(host, freeness(host, self._high), host.preemptions > before)

    def _forget_instances(self, now: float) -> None:
        """Those not seen for a few rounds are gone; each model has a round of its own."""
        limit = now - 3 * self.period_s
        for id in [id for id, (_, at_s) in self._preemptions.items() if at_s < limit]:
            del self._preemptions[id]

    def _pairs(self, seen: list[Seen], taken: set[InstanceId]) -> list[tuple[Seen, Seen]]:
        """The least free with the freest, and so on inwards."""
        params = self._params
        free = [
            one
            for one in seen
            if decodes(one.host) and one.host.n_moving < params.slots and one.host.id not in taken
        ]
        sources = [one for one in free if one.preempted or one.freeness < params.source_freeness]
        targets = [
            one for one in free if not one.preempted and one.freeness > params.target_freeness
        ]
        pairs = zip(sources, sorted(targets, key=_freest), strict=False)
        return [(source, target) for source, target in pairs if source.freeness < target.freeness]

    def _choose(self, source: Seen, target: Seen) -> PlacedView | None:
        if self._dwell.swaps(source.host.id, target.host.id):
            return None
        for placed in self._in_order(source.host):
            if self._dwell.holds(placed.request.id) or not fits(target.host, placed):
                continue
            if not self._params.balanced or self._balances(source, target, placed):
                return placed
        return None

    def _in_order(self, host: HostView) -> list[PlacedView]:
        """Low priority goes first: a move is a short pause, and others get the quiet."""

        def rank(placed: PlacedView) -> tuple[Any, ...]:
            request = placed.request
            return (-request.priority, ORDERS[self._params.order](placed), request.id)

        return sorted(settled(host), key=rank)

    def _balances(self, source: Seen, target: Seen, placed: PlacedView) -> bool:
        before = target.freeness - source.freeness
        left = _freeness_with(source, placed, -1)
        grown = _freeness_with(target, placed, +1)
        return grown > self._params.target_freeness and 0 < abs(grown - left) < before


def _least_free(seen: Seen) -> tuple[float, str]:
    return (seen.freeness, seen.host.id)


def _freest(seen: Seen) -> tuple[float, str]:
    return (-seen.freeness, seen.host.id)


def _freeness_with(seen: Seen, placed: PlacedView, n: int) -> float:
    """The instance's freeness with the sequence there (+1) or gone (-1)."""
    host = seen.host
    sequences = host.running + (1 if host.waiting else 0)
    blocks = blocks_of(placed.context_tokens, host) * host.block_tokens / BLOCK_TOKENS
    left = seen.freeness * max(sequences, 1) - n * blocks
    return left / max(sequences + n, 1)
