"""How the tokens of an answer are drawn, from the body of a call."""

from __future__ import annotations

import hashlib

import msgspec

from fairlead.gateway.schemas import Body
from fairlead.gateway.served import ServedModel
from fairlead.gateway.tools.constraint import constraint, stop_marks
from fairlead.gateway.tools.offer import Offer
from fairlead.model import RequestError, Sampling


def samplings(
    body: Body, model: ServedModel, logprobs: int | None, offer: Offer | None, seed: int, n: int
) -> list[Sampling]:
    """One for each of `n` choices, alike but for the seed. Raises `RequestError`."""
    first = _sampling(body, model, logprobs, offer, seed)
    return [first, *[_alike(first, derived_seed(seed, k)) for k in range(1, n)]]


def derived_seed(seed: int, choice: int) -> int:
    """Choice 0 has the seed itself, so that `n` choices begin with what one would have been."""
    if choice == 0:
        return seed
    digest = hashlib.blake2b(f"{seed}:{choice}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _alike(sampling: Sampling, seed: int) -> Sampling:
    return msgspec.structs.replace(sampling, seed=seed)


def _sampling(
    body: Body, model: ServedModel, logprobs: int | None, offer: Offer | None, seed: int
) -> Sampling:
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    if any(not text for text in stop):
        raise RequestError("a stop string must not be empty; leave it out", param="stop")
    stop_ids = tuple(body.stop_token_ids or ())
    if any(not 0 <= token < model.tokenizer.vocab_size for token in stop_ids):
        raise RequestError(
            f"stop_token_ids must be 0 to {model.tokenizer.vocab_size - 1}", param="stop_token_ids"
        )
    if body.min_tokens and body.max_tokens is not None and body.min_tokens > body.max_tokens:
        raise RequestError(
            f"min_tokens={body.min_tokens} is over max_tokens={body.max_tokens}", param="min_tokens"
        )
    held = constraint(body, model, offer)
    return Sampling(
        temperature=_or(body.temperature, 1.0),
        top_p=_or(body.top_p, 1.0),
        top_k=max(body.top_k or 0, 0),
        min_p=_or(body.min_p, 0.0),
        presence_penalty=_or(body.presence_penalty, 0.0),
        frequency_penalty=_or(body.frequency_penalty, 0.0),
        repetition_penalty=_or(body.repetition_penalty, 1.0),
        seed=seed,
        stop=(*stop, *stop_marks(model, offer)),
        stop_token_ids=stop_ids,
        logprobs=logprobs,
        ignore_eos=bool(body.ignore_eos),
        min_tokens=body.min_tokens or 0,
        json_schema=held.json_schema,
        grammar=held.grammar,
    )


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
