"""Texts and token ids that a client sends, in the four forms that OpenAI allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fairlead.gateway.checks.chain import Checks
from fairlead.gateway.served import ServedModel
from fairlead.model import RequestError

OnePrompt = str | list[int]


def several(given: str | list[Any], param: str) -> list[OnePrompt]:
    """The prompts of a string, strings, token ids, or lists of those. Raises `RequestError`."""
    if isinstance(given, str):
        return [given]
    if given and all(type(item) is int for item in given):
        return [_ids(given, param)]
    if given and all(type(item) is str for item in given):
        return list(given)
    if given and all(type(item) is list for item in given):
        return [_ids(item, param) for item in given]
    raise RequestError(
        f"{param} must be a string, a list of strings, a list of token ids, or a list of such "
        "lists, and not empty",
        param=param,
        code="invalid_value",
    )


def encode(one: OnePrompt, model: ServedModel, param: str) -> Sequence[int]:
    """Its token ids. Raises `RequestError` where they are not the model's."""
    return model.tokenizer.encode(one) if isinstance(one, str) else known(one, model, param)


def known(ids: list[int], model: ServedModel, param: str) -> list[int]:
    """The same ids. Raises `RequestError` where they are not the model's."""
    if ids and (min(ids) < 0 or max(ids) >= model.tokenizer.vocab_size):
        raise RequestError(
            f"token ids of {model.name} are 0 to {model.tokenizer.vocab_size - 1};"
            f" got {min(ids) if min(ids) < 0 else max(ids)}",
            param=param,
        )
    return ids


async def checked(
    prompts: list[OnePrompt], model: ServedModel, param: str, tenant: str, checks: Checks
) -> list[OnePrompt]:
    """Those that may be served. Token ids are read as the text that they are, and stay as they
    came where nobody changes that. Raises `RequestError`."""
    texts = [
        one if isinstance(one, str) else model.tokenizer.decode(known(one, model, param))
        for one in prompts
    ]
    asked = [{"role": "user", "content": text} for text in texts]
    said = await checks.look(tenant, model.name, asked)
    return [
        before if message["content"] == text else message["content"]
        for before, text, message in zip(prompts, texts, said, strict=True)
    ]


def _ids(items: list[Any], param: str) -> list[int]:
    if not all(type(item) is int and -(2**63) <= item < 2**63 for item in items):
        raise RequestError("a list of token ids must hold integers only", param=param)
    return items
