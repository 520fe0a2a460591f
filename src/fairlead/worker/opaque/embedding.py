"""A prompt's vector from a server's /v1/embeddings."""

from __future__ import annotations

import math
import struct
from typing import Any

from fairlead.model import Request
from fairlead.worker.opaque.api import Api
from fairlead.worker.opaque.dialect import Dialect, Prompts, Texts
from fairlead.worker.opaque.errors import ServerError, What

PATH = "/v1/embeddings"


async def fetch_vector(
    api: Api, dialect: Dialect, request: Request, texts: Texts, within_s: float
) -> bytes:
    """Float32, little-endian, as the server made it. Raises `ServerError`."""
    exact = dialect.prompts is Prompts.TOKENS
    # Of text the server makes tokens by itself, with what belongs around them.
    prompt = list(request.token_ids) if exact else texts.plain_text(request.token_ids)
    try:
        return _packed(await api.post_json(PATH, _body(dialect, prompt), within_s))
    except ServerError as error:
        if error.what is What.MISSING and not dialect.embeds_only:
            # The model is there, and answers chats: what is missing is the address.
            raise ServerError(What.UNSUPPORTED, f"it has no {PATH} for this model") from error
        raise


async def probe(api: Api, dialect: Dialect, prompt: str | list[int], within_s: float) -> object:
    """How many tokens the server made of the prompt, where it says so, once a vector has come.
    Raises `ServerError` where none does."""
    answer = await api.post_json(PATH, _body(dialect, prompt), within_s)
    _packed(answer)
    usage = answer.get("usage")
    return usage.get("prompt_tokens") if isinstance(usage, dict) else None


def _body(dialect: Dialect, prompt: str | list[int]) -> dict[str, Any]:
    return {"model": dialect.served_as, "input": prompt, "encoding_format": "float"}


def _packed(answer: Any) -> bytes:
    try:
        values = [float(value) for value in answer["data"][0]["embedding"]]
        if values and all(map(math.isfinite, values)):
            return struct.pack(f"<{len(values)}f", *values)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
        pass
    raise ServerError(What.ILL, f"{PATH} answers with no embedding")
