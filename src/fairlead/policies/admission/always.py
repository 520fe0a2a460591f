"""Take everything; queues are the only bound.

Rule: no request is rejected here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from fairlead.model import InstanceView, RequestView
from fairlead.policies.registry import admission


@dataclass(frozen=True, slots=True)
class Params:
    pass


@admission("always", Params)
class Always:
    def __init__(self, params: Params, rng: Random) -> None:
        pass

    def retry_after_s(
        self, request: RequestView, candidates: Sequence[InstanceView], now: float
    ) -> float | None:
        return None
