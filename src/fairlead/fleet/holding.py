"""Which requests are kept in the fleet though instances have room: where a fairness policy keeps
the order, instances are sent only what they will soon begin.

Whoever waits here waits for the instance that is best for it, as routing sees it, and not for any
that is about to be free: its prompt may be cached there, or long ones gather there. Meanwhile those
behind it in line may go elsewhere.
"""

from __future__ import annotations

from fairlead.fleet.roster import Roster
from fairlead.fleet.shadow import Shadow
from fairlead.fleet.tracked import Tracked
from fairlead.model import Request

ASKED_EVERY_S = 0.25
"""Which instance is best for one that waits is asked again after this time, and when the one that
was best has a turn for it."""


class Holding:
    def __init__(self, roster: Roster, hold_s: float | None) -> None:
        """`hold_s` is the fairness policy's; None keeps nobody."""
        self._roster = roster
        self._hold_s = hold_s

    @property
    def active(self) -> bool:
        return self._hold_s is not None

    def places(self, model: str) -> int:
        """How many may be kept so that they go in turns, and not for want of room."""
        if self._hold_s is None:
            return 0
        return sum(shadow.n_may_wait for shadow in self._roster.beginners(model))

    def any_turn(self, request: Request, candidates: list[Shadow]) -> bool:
        """Whether it would soon begin on one of them."""
        return any(self._has_turn(request, shadow) for shadow in candidates)

    def waits_for(self, tracked: Tracked, best: Shadow, now: float) -> bool:
        """Whether it stays here until the best instance for it would soon begin it. Nobody is kept
        waiting for the next word."""
        if tracked.call_has_begun or self._has_turn(tracked.request, best):
            tracked.awaits = None
            return False
        tracked.awaits, tracked.ranked_s = best.id, now
        return True

    def still_waits(self, tracked: Tracked, candidates: list[Shadow], now: float) -> bool:
        """The same as long as that one is still held to be the best."""
        if now >= tracked.ranked_s + ASKED_EVERY_S or tracked.call_has_begun:
            return False
        best = next((shadow for shadow in candidates if shadow.id == tracked.awaits), None)
        return best is not None and not self._has_turn(tracked.request, best)

    def _has_turn(self, request: Request, shadow: Shadow) -> bool:
        return self._hold_s is None or shadow.has_turn(request, self._hold_s)
