"""Our sampling parameters as vLLM's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fairlead.engine.uniform import scrambled
from fairlead.instance.sequence import Sequence
from fairlead.model import Sampling

GREEDY_BELOW = 1e-5
"""vLLM takes such temperatures for greedy."""


def arguments(sampling: Sampling, eos_token_ids: Iterable[int], vocab_size: int) -> dict[str, Any]:
    """For a `SamplingParams`. Stops and lengths are found by us; vLLM is told of stop tokens to
    mask them until there are `min_tokens`."""
    ends = set(sampling.stop_token_ids) | (set() if sampling.ignore_eos else set(eos_token_ids))
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "repetition_penalty": sampling.repetition_penalty,
        # Any number: what counts is the seed of each token. Without one there is no generator.
        "seed": 0,
        "stop_token_ids": sorted(token for token in ends if 0 <= token < vocab_size),
        "logprobs": sampling.logprobs,
        "min_tokens": sampling.min_tokens,
        "max_tokens": None,
        "ignore_eos": sampling.ignore_eos,
        "detokenize": False,
    }


def draws(sampling: Sampling) -> bool:
    """False where it is greedy."""
    return sampling.temperature >= GREEDY_BELOW


def token_seed(sequence: Sequence) -> int:
    """Of the generator for its next token: a function of the request's seed and the position, so
    that a sequence goes on elsewhere as if nothing had happened."""
    return scrambled(sequence.request.sampling.seed, sequence.n_produced) >> 1
