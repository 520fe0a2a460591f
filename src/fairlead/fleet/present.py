"""The time of the event that the fleet handles now."""

from __future__ import annotations


class Present:
    """Set by the fleet. What it believes of its instances catches up when somebody looks."""

    __slots__ = ("now",)

    def __init__(self, now: float = float("-inf")) -> None:
        self.now = now
