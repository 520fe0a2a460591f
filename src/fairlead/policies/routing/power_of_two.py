"""Two instances drawn at random; the one with fewer requests gets it.

Source: the policy of that name in sgl-project/sglang and vllm-project/aibrix.
Rule:   of two instances drawn without replacement, the fewer running + waiting requests win.

`two-choices` does the same by predicted time to the first token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from fairlead.model import InstanceView, RequestView
from fairlead.policies.registry import routing
from fairlead.policies.routing.parts import draw, n_requests


@dataclass(frozen=True, slots=True)
class Params:
    pass


@routing("power-of-two", Params)
class PowerOfTwo:
    def __init__(self, params: Params, rng: Random) -> None:
        self._rng = rng

    def rank(
        self, request: RequestView, candidates: Sequence[InstanceView], now: float
    ) -> list[InstanceView]:
        return sorted(draw(candidates, 2, self._rng), key=n_requests)
