"""How long a step takes: the question every policy, shadow and simulator asks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from fairlead.model import Row, RowKind


@dataclass(frozen=True, slots=True)
class StepShape:
    """All that a step's duration depends on."""

    decodes: int = 0
    """Decoding sequences (B)."""
    decode_context: int = 0
    """Tokens of context that the decodes read, summed (C)."""
    prefill_tokens: int = 0
    """New tokens of all prefill chunks; with `decodes` they are the step's tokens (T)."""
    prefill_pairs: float = 0.0
    """Query-key pairs of the chunks: sum of n * (start + n / 2) (A)."""
    longest: int = 0
    """Longest context walked in the step, chunk included (L)."""
    sampled: int = 0
    """Sequences from which a token is drawn (Q)."""

    @classmethod
    def of(cls, rows: Iterable[Row]) -> StepShape:
        decodes = context = tokens = longest = sampled = 0
        pairs = 0.0
        for row in rows:
            end = row.start + row.n
            if row.kind is RowKind.DECODE:
                decodes += 1
                context += end
            else:
                tokens += row.n
                pairs += row.n * (row.start + row.n / 2)
            if end > longest:
                longest = end
            sampled += row.samples
        return cls(decodes, context, tokens, pairs, longest, sampled)


class LatencyModel(Protocol):
    """Prices steps. Pure, monotone in every field of the shape; seconds throughout."""

    def step_s(self, shape: StepShape) -> float:
        """Duration of one step."""
        ...

    def run_s(self, shape: StepShape, n: int) -> float:
        """Duration of `n` iterations of a decode-only step, in closed form: in iteration j the
        context is `decode_context + j * decodes`. Equals the sum of `step_s` within 1e-9
        of it."""
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
