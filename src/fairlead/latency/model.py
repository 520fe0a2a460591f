"""How long a step takes: the question every policy, shadow and simulator asks."""

from __future__ import annotations

from typing import Protocol

from fairlead.model import StepShape

__all__ = ["LatencyModel", "StepShape"]


class LatencyModel(Protocol):
    """Prices steps. Pure, monotone in every field of the shape; seconds throughout."""

    def step_s(self, shape: StepShape) -> float:
        """Duration of one step."""
        ...

    def growth_s(self, shape: StepShape) -> float:
        """By how much each further iteration of a decode-only step takes longer: in iteration j
        the context is `decode_context + j * decodes`."""
        ...

    def run_s(self, shape: StepShape, n: int) -> float:
        """Duration of `n` iterations of a decode-only step, in closed form. Equals the sum of
        `step_s` within 1e-9 of it."""
        ...

    def iterations_within(self, shape: StepShape, seconds: float) -> int:
        """Most iterations of a decode-only step that end within `seconds`: the inverse of `run_s`,
        exact to the last bit of its rounding. Bounded, so that endless time has an answer."""
        ...

    def prefill_within(self, shape: StepShape, seconds: float, start: int) -> int:
        """Most prefill tokens, of one chunk that begins after `start` tokens of context, that may
        be added to `shape` while the step stays within `seconds`; 0 if it already exceeds it. The
        chunk is priced as one whose end samples a token. Bounded where nothing else bounds it."""
        ...
