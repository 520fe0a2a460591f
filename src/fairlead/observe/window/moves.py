"""Hand-offs under way."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from fairlead.model import Action, Handoff, RequestId
from fairlead.observe.window.seen import SeenFleet

MOST_SHOWN = 50
MOST_FOLLOWED = 5000
"""More at once are not looked at; nobody could read them."""


class MoveRow(Struct, frozen=True, array_like=True):
    """As it goes over the wire: a list of values in this order."""

    source: str
    target: str
    why: str
    begun_s: float


class Moves:
    """Hears when one begins; whether it still goes on, the fleet knows."""

    def __init__(self, fleet: SeenFleet) -> None:
        self._fleet = fleet
        self._begun: dict[RequestId, None] = {}

    def observe(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if type(action) is Handoff and len(self._begun) < MOST_FOLLOWED:
                self._begun[action.request] = None

    def rows(self) -> tuple[int, dict[str, MoveRow]]:
        """How many there are, and the longest of them."""
        found: dict[str, MoveRow] = {}
        for request in list(self._begun):
            seen = self._fleet.requests.get(request)
            moving = seen.moving if seen is not None else None
            if seen is None or moving is None:
                del self._begun[request]
            elif len(found) < MOST_SHOWN:
                begun_s = round(moving.begun_s, 3)
                found[request] = MoveRow(
                    seen.instance or "", moving.target, moving.why.value, begun_s
                )
        return len(self._begun), found
