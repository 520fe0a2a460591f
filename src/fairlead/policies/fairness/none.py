"""One queue for all: first come, first served, whoever asks.

Rule: no lanes, nothing is held back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from fairlead.model import InstanceView, RequestId, RequestView
from fairlead.policies.fairness.parts import Lane
from fairlead.policies.registry import fairness


@dataclass(frozen=True, slots=True)
class Params:
    pass


@fairness("none", Params)
class OneQueue:
    hold_s: float | None = None

    def __init__(self, params: Params, rng: Random) -> None:
        pass

    def lane(self, request: RequestView) -> Lane:
        return ()

    def in_turn(self) -> Iterator[Lane]:
        yield ()

    def arrived(self, request: RequestView, output_tokens: float, now: float) -> None:
        pass

    def began(self, request: RequestView, instance: InstanceView, now: float) -> None:
        pass

    def ended(self, request: RequestId, output_tokens: int) -> None:
        pass

    def n_before(self, request: RequestView, n_own: int) -> int:
        return n_own

    def wait_s(self, request: RequestView, n_before: int, now: float) -> float:
        return 0.0

    def crowder(self, request: RequestView) -> Lane | None:
        return None
