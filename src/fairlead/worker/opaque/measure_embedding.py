"""The latency of a server that gives vectors only, where no profile says it.

A vector is a prefill and nothing else, so that a few prompts of several lengths tell all there is.
What the way there and back takes cannot be told apart from a step's own base, and is part of it.
"""

from __future__ import annotations

import time
from random import Random

from fairlead.model import Request, RequestId
from fairlead.worker.opaque.api import Api
from fairlead.worker.opaque.dialect import Dialect
from fairlead.worker.opaque.embedding import fetch_vector
from fairlead.worker.opaque.measure import (
    ALPHABET,
    BUDGET_S,
    REPEATS,
    WITHIN_S,
    Point,
    Vocabulary,
    fitted,
    prefill_point,
)

LENGTHS = (8, 64, 256, 1024, 2048, 512)
"""Tokens of the prompts; those that the model cannot take are left out."""


async def measure_embedding(
    api: Api, dialect: Dialect, words: Vocabulary, *, max_sequences: int, seed: str
) -> dict[str, float]:
    """Coefficients of a latency model. Raises `ServerError` where the server fails at it."""
    rng = Random(seed)
    alphabet = list(words.tokens_of(ALPHABET))

    async def seconds(n: int) -> float:
        prompt = _request(rng.choices(alphabet, k=n))
        asked_s = time.perf_counter()
        await fetch_vector(api, dialect, prompt, words, WITHIN_S)
        return time.perf_counter() - asked_s

    begun_s = time.perf_counter()
    await seconds(LENGTHS[0])  # What is done once only would count for the first.
    points: list[Point] = []
    for n in LENGTHS:
        if points and (n >= dialect.max_context or time.perf_counter() - begun_s > BUDGET_S):
            continue
        # Whatever disturbs a step only makes it longer.
        points.append(prefill_point(n, min([await seconds(n) for _ in range(REPEATS)])))
    return fitted(points)


def _request(token_ids: list[int]) -> Request:
    return Request(
        RequestId("measure"),
        arrival_s=0.0,
        prompt_tokens=len(token_ids),
        max_tokens=1,
        token_ids=token_ids,
        embeds=True,
    )
