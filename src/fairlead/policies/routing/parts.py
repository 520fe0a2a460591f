"""What a routing policy offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fairlead.model import InstanceView, RequestView


class RoutingPolicy(Protocol):
    def rank(
        self, request: RequestView, candidates: Sequence[InstanceView], now: float
    ) -> Sequence[InstanceView]:
        """The candidates worth considering, best first. `candidates` all serve the request's model
        and have room; the result is empty only if they are."""
        ...
