"""How much batch work a fleet takes beside what its clients wait for.

Rule: while nobody queues in the fleet, each instance with seats and memory to spare is given a few
      lines to begin, and no more as soon as one more would slow its decoding beyond a part of what
      the fleet promises. Who goes first among those that wait at an instance is its batching
      policy's to say: the default one takes what was promised a time first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fairlead.fleet.shadow import Shadow


@dataclass(frozen=True, slots=True)
class Filling:
    """The rule's numbers."""

    pace_s: float | None = None
    """Tightest time per output token that the fleet promises anybody; None promises none."""
    pace: float = 0.6
    """Fraction of it that a decode step may take with one line more. Below the fraction at which
    the batching policy `slack` lets nobody in any more (0.8): what is between is for newcomers."""
    waiting: int = 4
    """Requests that may wait for their first token at an instance, lines included: enough that it
    never stands still until we hear that one has begun."""
    spare_fraction: float = 0.1
    """Of an instance's seats, and of its KV blocks, what must be free or held by cached prefixes
    only: a newcomer is not to wait until a line has ended or is preempted."""

    def room(self, instances: Sequence[Shadow], n_queued: int) -> int:
        """Lines that may be sent now, to instances of one model."""
        if n_queued:
            return 0
        if not instances:
            return self.waiting  # Somebody may start an instance for them.
        return sum(self._room_at(shadow) for shadow in instances)

    def _room_at(self, shadow: Shadow) -> int:
        if not shadow.has_room:
            return 0
        if not shadow.running and not shadow.waiting:
            return self.waiting
        if shadow.available_blocks < self.spare_fraction * shadow.total_blocks:
            return 0
        here = shadow.running + shadow.waiting
        seats = int((1 - self.spare_fraction) * shadow.max_sequences) - here
        n = max(min(self.waiting - shadow.waiting, seats), 0)
        if n and self.pace_s is not None:
            allowed_s = self.pace * self.pace_s
            while n and shadow.decode_step_s(n) > allowed_s:
                n -= 1
        return n
