"""What a server is, learnt by asking it: its software, its limits, how it takes prompts, and
whether a token, or a vector, really comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fairlead.model import ConfigError
from fairlead.worker.opaque.api import Api
from fairlead.worker.opaque.dialect import Dialect, Kind, Prompts
from fairlead.worker.opaque.errors import ServerError, What
from fairlead.worker.opaque.metrics import ServerLoad, read_load
from fairlead.worker.opaque.probing import AUTO, REFUSED, SAMPLE, Words, probed

_KINDS = {"vllm": Kind.VLLM, "sglang": Kind.SGLANG, "llamacpp": Kind.LLAMA_CPP}
"""By what `/v1/models` says of the owner."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a fleet file says of a server."""

    served_as: str
    """The model's name there."""
    prompts: str = AUTO
    max_context: int | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What came out."""

    dialect: Dialect
    version: str
    max_context: int
    max_sequences: int | None
    """Where it says how many it runs at once."""
    load: ServerLoad
    has_metrics: bool
    health_path: str

    def __str__(self) -> str:
        """For people."""
        dialect = self.dialect
        name = f"{dialect.kind.value} {self.version}".strip()
        takes = {
            Prompts.TOKENS: "takes token ids",
            Prompts.TEXT: "takes text",
            Prompts.CHAT: "takes chats only",
        }[dialect.prompts]
        gives = "gives token ids" if dialect.returns_ids else "gives text"
        if dialect.embeds_only:
            gives = "gives embeddings only"
        known = "tells its load" if self.has_metrics else "does not tell its load"
        return f"{name}: {takes}, {gives}, {known}, contexts up to {self.max_context}"


async def introduce(api: Api, asked: Asked, words: Words) -> Facts:
    """Raises `ConfigError` where somebody has to change something, and `ServerError` where it may
    pass by itself."""
    entry = await _entry(api, asked.served_as)
    kind = _KINDS.get(str(entry.get("owned_by")), Kind.OTHER)
    about = await _about(api, kind)
    max_context = _max_context(api, asked, entry, about, words)
    draft = Dialect(kind, Prompts.TOKENS, asked.served_as, max_context)
    dialect = await probed(api, draft, asked.prompts, words)
    if dialect.prompts is Prompts.TOKENS:
        await _check_tokenizer(api, dialect, words)
    page = await _maybe(api, "/metrics")
    load = read_load(page.decode(errors="replace")) if page is not None else ServerLoad()
    return Facts(
        dialect,
        await _version(api, kind),
        max_context,
        _whole(about.get("total_slots")) or _whole(about.get("max_running_requests")),
        replace(load, kv_tokens=load.kv_tokens or _whole(about.get("max_total_num_tokens"))),
        load.running is not None,
        "/health" if await _maybe(api, "/health") is not None else "/v1/models",
    )


async def _entry(api: Api, name: str) -> Mapping[str, Any]:
    """What it says of the model."""
    listing = await _answer(api, "/v1/models")
    entries = listing.get("data") if isinstance(listing, dict) else None
    if not isinstance(entries, list):
        raise ConfigError(f"{api.url}/v1/models lists no models; {_EXPECTED}")
    models = {e["id"]: e for e in entries if isinstance(e, dict) and isinstance(e.get("id"), str)}
    if name not in models:
        served = ", ".join(map(repr, models)) or "nothing"
        raise ConfigError(
            f"{api.url} does not serve {name!r}, it serves {served}; set served_as to the model's "
            "name there"
        )
    found: Mapping[str, Any] = models[name]
    return found


_EXPECTED = (
    "expected an OpenAI-compatible server. Its url is what comes before /v1, such as "
    "http://127.0.0.1:8000"
)


async def _answer(api: Api, path: str) -> Any:
    try:
        return await api.get_json(path)
    except ServerError as trouble:
        if trouble.what is What.KEY:
            raise ConfigError(
                f"{api.url} refuses our key ({trouble}); put the right one into the file that "
                "api_key_file names"
            ) from trouble
        if trouble.what in REFUSED:
            raise ConfigError(f"{api.url}{path}: {trouble}; {_EXPECTED}") from trouble
        raise


async def _maybe(api: Api, path: str) -> bytes | None:
    """None where the server has no such page."""
    try:
        return await api.get(path)
    except ServerError as trouble:
        if trouble.what is What.UNREACHABLE:
            raise
        return None


async def _about(api: Api, kind: Kind) -> Mapping[str, Any]:
    """What some servers say of themselves beside `/v1/models`."""
    path = {Kind.LLAMA_CPP: "/props", Kind.SGLANG: "/get_server_info"}.get(kind)
    if path is None:
        return {}
    try:
        found = await api.get_json(path)
    except ServerError as trouble:
        if trouble.what is What.UNREACHABLE:
            raise
        return {}
    return found if isinstance(found, dict) else {}


async def _version(api: Api, kind: Kind) -> str:
    if kind is not Kind.VLLM:
        return ""
    try:
        return str((await api.get_json("/version")).get("version", ""))
    except (ServerError, AttributeError):
        return ""


def _max_context(
    api: Api, asked: Asked, entry: Mapping[str, Any], about: Mapping[str, Any], words: Words
) -> int:
    """The server's own limit, the pool's where that is less, the tokenizer's where nobody says."""
    meta, settings = entry.get("meta"), about.get("default_generation_settings")
    theirs = (
        _whole(entry.get("max_model_len"))
        or _whole(settings.get("n_ctx") if isinstance(settings, dict) else None)
        or _whole(meta.get("n_ctx_train") if isinstance(meta, dict) else None)
    )
    if theirs and asked.max_context and asked.max_context > theirs:
        raise ConfigError(
            f"the pool promises a max_context of {asked.max_context} tokens, and {asked.served_as} "
            f"has {theirs} at {api.url}; promise at most that, or start the server with more"
        )
    found = asked.max_context or theirs or words.max_context
    if not found:
        raise ConfigError(
            f"{api.url} does not say how long a context {asked.served_as} has; set max_context"
        )
    return found


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


async def _check_tokenizer(api: Api, dialect: Dialect, words: Words) -> None:
    """Raises `ConfigError` where the server would understand other words than we send it."""
    body: dict[str, Any] = {
        "model": dialect.served_as,
        "prompt": SAMPLE,
        "content": SAMPLE,
        "add_special_tokens": False,
    }
    try:
        found = await api.post_json("/tokenize", body)
    except ServerError:
        return
    theirs = found.get("tokens") if isinstance(found, dict) else None
    if isinstance(theirs, list) and all(isinstance(token, int) for token in theirs):
        ours = list(words.tokens_of(SAMPLE))
        if theirs != ours:
            raise ConfigError(
                f"{api.url} has another tokenizer than ours: it makes {theirs[:4]}… of a text of "
                f"which ours makes {ours[:4]}…; let tokenizer name the folder of the model that is "
                'served there, or set prompts = "text"'
            )
