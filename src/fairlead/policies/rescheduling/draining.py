"""Everything leaves an instance that drains: what waits at once, what decodes as slots allow."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fairlead.model import HandoffWhy, HostView, InstanceId, PlacedView
from fairlead.policies.rescheduling.parts import Move
from fairlead.policies.rescheduling.room import begins, decodes, fits, still_queued

Order = Callable[[HostView], list[PlacedView]]


def emptying(hosts: Sequence[HostView], slots: int, in_order: Order) -> list[Move]:
    """Moves away from those of `hosts` that drain, to the others, the first of which are best.

    `in_order` tells which sequences of an instance may go, the first first. In one round each
    target gets at most one sequence: what a second would find there, nobody knows yet."""
    moves: list[Move] = []
    for source in hosts:
        if source.draining:
            moves += _queue(source, [host for host in hosts if begins(host)])
            taken = {move.target for move in moves if move.source != source.id}
            targets = [
                host
                for host in hosts
                if decodes(host) and host.n_moving < slots and host.id not in taken
            ]
            moves += _running(source, targets, slots - source.n_moving, in_order(source))
    return moves


def _queue(source: HostView, targets: list[HostView]) -> list[Move]:
    """Spread evenly: there is no KV to carry."""
    if not targets:
        return []
    return [
        _move(placed, source, targets[i % len(targets)].id)
        for i, placed in enumerate(still_queued(source))
    ]


def _running(
    source: HostView, targets: list[HostView], slots: int, leaving: list[PlacedView]
) -> list[Move]:
    moves: list[Move] = []
    for target in targets:
        if len(moves) >= slots:
            break
        placed = next((one for one in leaving if fits(target, one)), None)
        if placed is not None:
            leaving.remove(placed)
            moves.append(_move(placed, source, target.id))
    return moves


def _move(placed: PlacedView, source: HostView, target: InstanceId) -> Move:
    return Move(placed.request.id, source.id, target, HandoffWhy.DRAIN)
