"""Small sequences make room for a large request that waits while the fleet has room in pieces.

Source: our own; the aim is one of Llumnix's: memory that is free, but on no instance enough of it.
Rule:   where the head of a queue has waited for `patience_s` and needs more memory than its
        instance has free: if another has room for it, it goes there. Else at most `moves`
        sequences, the smallest that together make the room, are handed off, each to the instance
        where it fits most tightly; all of them, or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from fairlead.model import HandoffWhy, HostView, InstanceId, PlacedView
from fairlead.policies.freeness import blocks_of, free_blocks, head_blocks
from fairlead.policies.registry import rescheduling
from fairlead.policies.rescheduling.dwell import Dwell
from fairlead.policies.rescheduling.parts import Move
from fairlead.policies.rescheduling.room import begins, decodes, fits, free_seats, settled


@dataclass(frozen=True, slots=True)
class Params:
    period_s: float = 0.5
    patience_s: float = 0.5
    """How old a request is before others move for it: memory may come free by itself."""
    moves: int = 4
    """Most hand-offs for one request."""
    slots: int = 4
    """Hand-offs that an instance takes part in at a time."""
    dwell_s: float = 5.0
    """For so long what moved stays, and nothing moves between the same two the other way."""

    def __post_init__(self) -> None:
        if self.period_s <= 0:
            raise ValueError(f"period_s must be positive, got {self.period_s}")
        if min(self.patience_s, self.dwell_s) < 0:
            raise ValueError("patience_s and dwell_s must be at least 0")
        if min(self.moves, self.slots) < 1:
            raise ValueError("moves and slots must be at least 1")


class Room:
    """What targets have left, as this round fills them."""

    def __init__(self, hosts: Sequence[HostView], slots: int) -> None:
        self.hosts = [host for host in hosts if host.n_moving < slots]
        self.blocks = {host.id: host.available_blocks for host in self.hosts}
        self.slots = {host.id: slots - host.n_moving for host in self.hosts}
        self.seats = {host.id: free_seats(host) for host in self.hosts}

    def tightest(self, placed: PlacedView, source: HostView, dwell: Dwell) -> HostView | None:
        """Where it leaves the least behind: large holes stay whole."""
        able = [
            host
            for host in self.hosts
            if host is not source
            and self.slots[host.id] > 0
            and self.seats[host.id] > 0
            and self.blocks[host.id] > blocks_of(placed.context_tokens, host)
            and not dwell.swaps(source.id, host.id)
        ]
        return min(able, key=lambda host: (self.blocks[host.id], host.id), default=None)

    def take(self, placed: PlacedView, host: HostView) -> None:
        self.blocks[host.id] -= blocks_of(placed.context_tokens, host)
        self.slots[host.id] -= 1
        self.seats[host.id] -= 1

    def give_back(self, placed: PlacedView, host: HostView) -> None:
        self.blocks[host.id] += blocks_of(placed.context_tokens, host)
        self.slots[host.id] += 1
        self.seats[host.id] += 1


@rescheduling("defragment", Params)
class Defragment:
    def __init__(self, params: Params, rng: Random) -> None:
        self.period_s = params.period_s
        self._params = params
        self._dwell = Dwell(params.dwell_s)

    def propose(self, hosts: Sequence[HostView], now: float) -> list[Move]:
        self._dwell.forget(now)
        blocked = {host.id: host for host in hosts if self._is_blocked(host, now)}
        others = [host for host in hosts if host.id not in blocked]
        room = Room([host for host in others if decodes(host)], self._params.slots)
        taken: set[InstanceId] = set()
        moves: list[Move] = []
        for source in blocked.values():
            head = self._send_head(source, [h for h in others if h.id not in taken])
            found = [head] if head is not None else self._make_room(source, room)
            taken |= {move.target for move in found}
            moves += [self._dwell.note(move, now) for move in found]
        return moves

    def _is_blocked(self, host: HostView, now: float) -> bool:
        if not host.waiting or host.draining:
            return False
        waited_s = now - host.queue[0].request.arrival_s
        return waited_s >= self._params.patience_s and head_blocks(host) > free_blocks(host)

    def _send_head(self, source: HostView, others: Sequence[HostView]) -> Move | None:
        """The request itself, which has no KV to carry, to the instance with the most room."""
        head = source.queue[0]
        if head.is_moving or self._dwell.holds(head.request.id):
            return None
        able = [
            host
            for host in others
            if begins(host) and fits(host, head) and not self._dwell.swaps(source.id, host.id)
        ]
        if not able:
            return None
        target = max(able, key=lambda host: (host.available_blocks, host.id))
        return Move(head.request.id, source.id, target.id, HandoffWhy.DEFRAGMENT)

    def _make_room(self, source: HostView, room: Room) -> list[Move]:
        """Sequences that free what the head lacks; none where they would not all find a place."""
        plan: list[tuple[PlacedView, HostView]] = []
        for placed in self._leaving(source):
            target = room.tightest(placed, source, self._dwell)
            if target is None:
                for other, where in plan:
                    room.give_back(other, where)
                return []
            room.take(placed, target)
            plan.append((placed, target))
        return [
            Move(placed.request.id, source.id, target.id, HandoffWhy.DEFRAGMENT)
            for placed, target in plan
        ]

    def _leaving(self, source: HostView) -> list[PlacedView]:
        """The smallest few that suffice; the largest of them first, it is the hardest to place."""
        missing = head_blocks(source) - free_blocks(source)
        n = min(self._params.moves, self._params.slots - source.n_moving)
        movable = [one for one in settled(source) if not self._dwell.holds(one.request.id)]
        movable.sort(key=lambda placed: (placed.context_tokens, placed.request.id))
        sizes = [blocks_of(placed.context_tokens, source) for placed in movable]
        for end in range(1, len(movable) + 1):
            start = max(end - n, 0)
            if n > 0 and sum(sizes[start:end]) >= missing:
                while sum(sizes[start + 1 : end]) >= missing:
                    start += 1
                return movable[start:end][::-1]
        return []
