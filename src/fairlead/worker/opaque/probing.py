"""How a server takes prompts, and what comes out of it: found by asking for one token, and for a
vector where there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from fairlead.model import ConfigError
from fairlead.worker.opaque import embedding
from fairlead.worker.opaque.api import Api
from fairlead.worker.opaque.chunks import Chunk
from fairlead.worker.opaque.dialect import Dialect, Prompts
from fairlead.worker.opaque.errors import ServerError, What

PROBE_S = 60.0
"""For one token from a server that may be busy, or load its model at the first request."""
SAMPLE = "The quick brown fox, 12 of 37: naïve? ☃"
"""Text that two tokenizers hardly cut alike unless they are the same."""
AUTO = "auto"
REFUSED = (What.UNSUPPORTED, What.MISSING, What.TOO_LONG, What.GARBAGE)
"""The server is there, and does not do it."""


class Words(Protocol):
    @property
    def max_context(self) -> int | None: ...
    def tokens_of(self, text: str) -> Sequence[int]: ...
    def raw_text(self, token_ids: Sequence[int]) -> str: ...


async def probed(api: Api, draft: Dialect, wanted: str, words: Words) -> Dialect:
    """The dialect in which one token has come out, or else a vector. `wanted` is one of `Prompts`,
    or `AUTO`. Raises `ConfigError` where nothing can, and `ServerError` where it may pass."""
    ways = (Prompts.TOKENS, Prompts.TEXT) if wanted == AUTO else (Prompts(wanted),)
    dialects = [replace(draft, prompts=way) for way in ways]
    refusals: list[ServerError] = []
    for dialect in dialects:
        try:
            return await _giving_tokens(api, dialect, words)
        except ServerError as trouble:
            # A server that stumbles over token ids may say so with a status of 500.
            if trouble.what in (What.UNREACHABLE, What.BUSY):
                raise
            refusals.append(trouble)
    if refusals[-1].what is What.ILL:
        raise refusals[-1]
    refused = refusals[-1].what in REFUSED and wanted != Prompts.CHAT.value
    if refused and not await _chats(api, draft, words):
        for dialect in dialects:
            if await _gives_vectors(api, dialect, words):
                return replace(dialect, embeds_only=True)
    raise _nothing(api, dialects[-1], refusals[-1])


def _nothing(api: Api, dialect: Dialect, trouble: ServerError) -> ConfigError:
    if trouble.what is What.KEY:
        help_ = "put the right key into the file that api_key_file names"
    elif dialect.prompts is Prompts.CHAT:
        help_ = "expected a chat model of an OpenAI-compatible server"
    else:
        help_ = 'if it serves chats only, set prompts = "chat"'
    return ConfigError(f"{api.url}{dialect.path} gives no token ({trouble}); {help_}")


async def _giving_tokens(api: Api, dialect: Dialect, words: Words) -> Dialect:
    """Raises `ServerError` where it gives none."""
    token_ids = list(words.tokens_of(SAMPLE))
    prompts: Mapping[Prompts, Mapping[str, Any]] = {
        Prompts.TOKENS: {"prompt": token_ids},
        Prompts.TEXT: {"prompt": SAMPLE},
        Prompts.CHAT: {"messages": [{"role": "user", "content": SAMPLE}]},
    }
    answer = await _one_token(api, dialect, prompts[dialect.prompts])
    if not answer.choices:
        raise ServerError(What.GARBAGE, "it answers without a choice")
    used = answer.usage.prompt_tokens if answer.usage is not None else None
    if dialect.prompts is Prompts.TOKENS:
        _check_count(used, len(token_ids))
    ids = dialect.prompts is Prompts.TOKENS and answer.choices[0].token_ids is not None
    return replace(dialect, returns_ids=ids)


def _check_count(used: object, n: int) -> None:
    """A server may put a token of its own in front; one that takes ids for text counts many
    more."""
    if used not in (None, n, n + 1):
        raise ServerError(What.UNSUPPORTED, f"it makes {used} tokens of a prompt of {n} token ids")


async def _one_token(api: Api, dialect: Dialect, prompt: Mapping[str, Any]) -> Chunk:
    try:
        return await api.complete(dialect.path, dialect.probe(prompt), PROBE_S)
    except ServerError as trouble:
        if "max_completion_tokens" not in str(trouble):
            raise
    dialect.limit_key = "max_completion_tokens"
    return await api.complete(dialect.path, dialect.probe(prompt), PROBE_S)


async def _chats(api: Api, draft: Dialect, words: Words) -> bool:
    """Whether it gives tokens after all: one that does is not for embeddings alone."""
    try:
        return bool(await _giving_tokens(api, replace(draft, prompts=Prompts.CHAT), words))
    except ServerError as trouble:
        if trouble.what not in REFUSED:
            raise
        return False


async def _gives_vectors(api: Api, dialect: Dialect, words: Words) -> bool:
    exact = dialect.prompts is Prompts.TOKENS
    token_ids = list(words.tokens_of(SAMPLE))
    try:
        used = await embedding.probe(api, dialect, token_ids if exact else SAMPLE, PROBE_S)
        if exact:
            _check_count(used, len(token_ids))
    except ServerError as trouble:
        # One that stumbles over token ids may take text.
        if trouble.what in (What.UNREACHABLE, What.BUSY):
            raise
        return False
    return True
