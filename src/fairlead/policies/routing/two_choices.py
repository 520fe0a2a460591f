"""Two choices: look at a few instances drawn at random, send the request to the best of them.

Paper: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001.
Rule:  of `choices` instances drawn without replacement, the lowest predicted TTFT wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from fairlead.model import InstanceView, RequestView
from fairlead.policies.registry import routing
from fairlead.policies.routing.parts import draw


@dataclass(frozen=True, slots=True)
class Params:
    choices: int = 2
    """Instances drawn for each request, at least 1. The paper studies 2."""

    def __post_init__(self) -> None:
        if self.choices < 1:
            raise ValueError(f"choices must be at least 1, got {self.choices}")


@routing("two-choices", Params)
class TwoChoices:
    def __init__(self, params: Params, rng: Random) -> None:
        self._params = params
        self._rng = rng

    def rank(
        self, request: RequestView, candidates: Sequence[InstanceView], now: float
    ) -> list[InstanceView]:
        """Order the drawn candidates, best first; equal predictions fall back to the id."""
        drawn = draw(candidates, self._params.choices, self._rng)
        return sorted(drawn, key=lambda view: (view.predicted_ttft_s(request), view.id))
