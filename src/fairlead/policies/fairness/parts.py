"""What a fairness policy offers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from fairlead.model import InstanceView, RequestId, RequestView

Lane = tuple[Any, ...]
"""Requests of one lane wait in one order: whose first token is due sooner goes first where the
fleet keeps them, then who came first."""


class FairnessPolicy(Protocol):
    """Orders the fleet's queue. It hears of every request three times: when the fleet accepts it,
    when it is first sent to an instance, and when it ends, sent or not."""

    hold_s: float | None
    """Requests are kept in the fleet while every instance has as many waiting as have begun there
    in so many seconds. None: they are sent on as long as an instance has room."""

    def lane(self, request: RequestView) -> Lane:
        """Where it waits."""
        ...

    def in_turn(self) -> Iterator[Lane]:
        """The lanes in which anything waits that was not sent yet, as their turns come. Holds until
        somebody comes, goes or is sent."""
        ...

    def arrived(self, request: RequestView, output_tokens: float, now: float) -> None:
        """It is the fleet's from now on. `output_tokens` is what is expected of it."""
        ...

    def began(self, request: RequestView, instance: InstanceView, now: float) -> None:
        """It is sent to an instance, for the first time."""
        ...

    def ended(self, request: RequestId, output_tokens: int) -> None:
        """It is over, however it ended."""
        ...

    def n_before(self, request: RequestView, n_own: int) -> int:
        """How many of those it shares with have their turns before it, if it came now and so many
        of its lane went before it: those among them."""
        ...

    def wait_s(self, request: RequestView, n_before: int, now: float) -> float:
        """How long it would wait if it came now, for so many to have their turns."""
        ...

    def crowder(self, request: RequestView) -> Lane | None:
        """The queue is full, and `request` wants in: the lane whose newest request is to go in its
        place. None: no other has more than its share."""
        ...
