"""What one iteration of the engine brought."""

from __future__ import annotations

from dataclasses import dataclass, field

from fairlead.model import FinishReason, RequestId


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Natural-log probabilities under the model's own distribution: before temperature, penalties
    and masks, whatever the token was drawn from."""

    logprob: float
    """Of the token that came out."""
    top: tuple[tuple[int, float], ...]
    """The most likely tokens as (id, logprob), best first; equal ones by id."""


@dataclass(slots=True)
class Output:
    """One token for every row with `samples`."""

    tokens: dict[RequestId, int] = field(default_factory=dict)
    stopped: dict[RequestId, FinishReason] = field(default_factory=dict)
    """Sequences whose token here ends them. Stop strings and lengths are found by others."""
    logprobs: dict[RequestId, TokenLogprobs] = field(default_factory=dict)
    """Of the sequences that asked for them."""
    vectors: dict[RequestId, bytes] = field(default_factory=dict)
    """Of requests that embed, see `embedding.py`."""
