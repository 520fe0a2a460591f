"""Sequences leave an instance whose memory is short, where that saves others time.

Rule: memory is short where the head of the queue and what all decodes grow by within a horizon
      need more than is free. A block that comes free spares everybody who waits its share of the
      context in time, for all of the context turns over in a lifetime. It costs the hand-off, and
      what those who decode there lose to a longer step, less what those here win by a shorter one.
"""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.model import HostView, InstanceId, PlacedView
from fairlead.policies.freeness import blocks_of, free_blocks, head_blocks
from fairlead.policies.rescheduling.dwell import Dwell
from fairlead.policies.rescheduling.parts import Move
from fairlead.policies.rescheduling.room import decodes, fits, settled

MOST_SOURCES = 32
"""Relieved in a round: all sequences of each are weighed."""


class Relief:
    """Proposes at most one hand-off from each instance, and one to each."""

    def __init__(self, horizon_s: float, gain_s: float, slots: int, dwell: Dwell) -> None:
        """A hand-off has to gain more than `gain_s`; `slots` are those that an instance takes part
        in at a time."""
        self._horizon_s = horizon_s
        self._gain_s = gain_s
        self._slots = slots
        self._dwell = dwell

    def moves(self, hosts: Sequence[HostView], now: float) -> list[Move]:
        """From where most memory is missing to where most is free, and so on."""
        able = [host for host in hosts if decodes(host) and host.n_moving < self._slots]
        missing = {host.id: self._missing_blocks(host) for host in able}
        sources = [host for host in able if missing[host.id] > 0 and host.decoding]
        targets = [host for host in able if missing[host.id] < 0 and not host.waiting]
        targets.sort(key=lambda host: (missing[host.id], host.id))
        moves = []
        sources.sort(key=lambda host: (-missing[host.id], host.id))
        for source in sources[:MOST_SOURCES]:
            free = (host for host in targets if not self._dwell.swaps(source.id, host.id))
            target = next(free, None)
            if target and (placed := self._best(source, target, missing)) is not None:
                targets.remove(target)
                move = Move(placed.request.id, source.id, target.id)
                moves.append(self._dwell.note(move, now))
        return moves

    def _missing_blocks(self, host: HostView) -> float:
        """Negative where there are enough."""
        growth = 0.0
        if host.decoding:
            steps = self._horizon_s / host.predicted_tpot_s(host.decoding[0].request)
            growth = host.running * steps / host.block_tokens
        return head_blocks(host) + growth - free_blocks(host)

    def _best(
        self, source: HostView, target: HostView, missing: dict[InstanceId, float]
    ) -> PlacedView | None:
        """What gains most; None where nothing gains enough."""
        one = source.decoding[0].request
        life_s = source.predicted_e2e_s(one) - source.predicted_ttft_s(one)
        life_tokens = life_s / source.predicted_tpot_s(one)
        # Somebody will be preempted if nobody waits yet.
        waiters = source.waiting + 1
        block_s = waiters * life_s * source.block_tokens / max(source.context_tokens, 1)

        def gain_s(placed: PlacedView) -> float:
            tokens = placed.context_tokens
            freed = min(blocks_of(tokens, source), missing[source.id])
            slower_s = target.running * target.stretch_s(tokens)
            faster_s = (source.running - 1) * source.stretch_s(tokens)
            stretched_s = life_tokens * (slower_s - faster_s)
            return freed * block_s - source.handoff_s(tokens) - stretched_s

        fitting = [
            placed
            for placed in settled(source)
            if not self._dwell.holds(placed.request.id)
            and fits(target, placed)
            and missing[target.id] + blocks_of(placed.context_tokens, target) <= 0
        ]
        best = max(fitting, key=lambda placed: (gain_s(placed), placed.request.id), default=None)
        return best if best is not None and gain_s(best) > self._gain_s else None
