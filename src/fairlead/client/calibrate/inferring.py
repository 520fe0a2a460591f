"""What the tokens of a stream tell about an engine that nobody can look into.

Several streams that decode together get one token each a step, so the time between tokens is the
step. A prompt that nothing stands beside takes the time to its first token, less the way there and
back; how long that is, a prompt of a token or two tells, for its step is that of a decode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from fairlead.client.calibrate.probing import Heard
from fairlead.latency import Point, StepShape

TINY_TOKENS = 2
"""A prompt so short that its step is as long as that of a decode."""
LEAST_STEPS = 4
"""Fewer are too short a time to measure through a network."""


@dataclass(frozen=True, slots=True)
class Way:
    """How long a request takes beside its steps: network, HTTP, tokenisation."""

    s: float
    s_per_token: float = 0.0
    """Of its prompt."""

    def seconds(self, prompt_tokens: int) -> float:
        return self.s + self.s_per_token * prompt_tokens


def fit_way(rests: Sequence[tuple[int, float]]) -> Way:
    """The line through (prompt tokens, seconds beside the steps) that half of the points lie above
    and that single wild ones do not bend; none of it is below 0.

    Paper: Theil, "A rank-invariant method of linear and polynomial regression analysis", 1950.
    """
    slopes = [
        (rest_s - other_s) / (tokens - other)
        for i, (tokens, rest_s) in enumerate(rests)
        for other, other_s in rests[:i]
        if tokens != other
    ]
    slope = max(median(slopes), 0.0) if slopes else 0.0
    constant = median(rest_s - slope * tokens for tokens, rest_s in rests)
    return Way(max(constant, 0.0), slope)


def decode_point(streams: Sequence[Heard]) -> Point | None:
    """The decode step of streams that ran together: from when the last of them had begun until
    the first ended. None where that is too short a time."""
    begun_s = max(heard.first_s for heard in streams)
    ended_s = min(heard.last_s for heard in streams)
    spans = [(heard.tokens_by(begun_s), heard.tokens_by(ended_s)) for heard in streams]
    n = len(streams)
    steps = sum(end - begin for begin, end in spans) / n
    if steps < LEAST_STEPS:
        return None
    context = sum(
        heard.prompt_tokens + (begin + end) / 2
        for heard, (begin, end) in zip(streams, spans, strict=True)
    )
    return StepShape(n, round(context), 0, 0.0, 0, n), (ended_s - begun_s) / steps


def prefill_point(heard: Heard, way: Way) -> Point | None:
    """The step that computed a prompt with nothing beside it. None where the way was longer."""
    n = heard.prompt_tokens
    seconds = heard.ttft_s - way.seconds(n)
    return (StepShape(0, 0, n, n * n / 2, n, 1), seconds) if seconds > 0 else None
