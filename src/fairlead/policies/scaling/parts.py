"""What a scaling policy sees and offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fairlead.model import HostView, RequestView


class PoolView(Protocol):
    """A pool, as the fleet believes it to be now."""

    @property
    def name(self) -> str: ...
    @property
    def hosts(self) -> Sequence[HostView]:
        """Instances that are up, those that drain left out."""
        ...

    @property
    def n_starting(self) -> int:
        """Instances that were asked for and are not up yet."""
        ...

    @property
    def n_queued(self) -> int:
        """Requests that wait in the fleet for an instance with room."""
        ...

    @property
    def start_up_s(self) -> float:
        """How long an instance takes to be up."""
        ...

    @property
    def min_instances(self) -> int: ...
    @property
    def max_instances(self) -> int: ...


class ScalingPolicy(Protocol):
    """Asked every `period_s`."""

    period_s: float

    def arrived(self, request: RequestView, now: float) -> None:
        """A request came for this pool; told before it is placed."""
        ...

    def desired(self, pool: PoolView, now: float) -> int:
        """Instances that the pool should have, those that start counted. The fleet keeps the
        answer within the pool's bounds, and drains those that are too many."""
        ...
