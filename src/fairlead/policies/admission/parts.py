"""What an admission policy of the fleet offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fairlead.model import InstanceView, RequestView


class AdmissionPolicy(Protocol):
    def retry_after_s(
        self, request: RequestView, candidates: Sequence[InstanceView], now: float
    ) -> float | None:
        """None admits. A number rejects, and says in how many seconds the same request would
        probably be admitted. `candidates` may be empty: the request would queue in the fleet."""
        ...
