"""What a server says about itself before anything is sent to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec

from fairlead.client.errors import connection_error, message_of_body
from fairlead.model import ConfigError, Objective, ProtocolError
from fairlead.workload.objectives import make_objective
from fairlead.workload.prompts import ANY_MODEL, Vocabulary

ANSWER_S = 15.0
"""A server that needs longer to list its models is not ready."""


@dataclass(frozen=True, slots=True)
class Server:
    """An OpenAI-compatible server, and the model of it that is asked."""

    url: str
    """Without `/v1` and without a slash at its end."""
    model: str
    models: tuple[str, ...] = ()
    is_fairlead: bool = False
    vocabulary: Vocabulary = ANY_MODEL
    max_context: int | None = None
    objectives: Mapping[str, Objective] = field(default_factory=dict)
    default_class: str | None = None
    policy: Mapping[str, str] = field(default_factory=dict)
    fleet: str = ""


def base_url(url: str) -> str:
    """`http://host:port`, whether or not `/v1` was given. Raises `ConfigError`."""
    if "://" not in url:
        url = f"http://{url}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(f"--url {url!r} is no address. Example: http://127.0.0.1:8000")
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def headers(api_key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


async def ask_server(url: str, api_key: str | None, model: str | None) -> Server:
    """Asks which models there are. Raises `ConfigError` where nobody answers, `ProtocolError`
    where somebody else does."""
    base = base_url(url)
    listing = await _get_json(f"{base}/v1/models", headers(api_key))
    models = _models(base, listing)
    if model is not None and model not in models:
        raise ConfigError(f"{base} does not serve {model!r}; it serves {', '.join(models)}.")
    name = model or next(iter(models))
    return _describe(base, name, models)


async def _get_json(url: str, auth: Mapping[str, str]) -> object:
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=auth) as session,
            session.get(url) as reply,
        ):
            body = await reply.content.read(4 * 1024 * 1024)
            status = reply.status
    except aiohttp.InvalidURL as error:
        raise ConfigError(f"{url} is no address. Example: http://127.0.0.1:8000") from error
    except (aiohttp.ClientError, OSError) as error:
        raise ConfigError(
            f"nobody answers at {url} ({connection_error(error)}). "
            "Is the server running, and is the address right?"
        ) from error
    if status in (401, 403):
        raise ConfigError(
            f"{url} answers {status}: {_message(body)} Give a key with --api-key or OPENAI_API_KEY."
        )
    if status != 200:
        raise ProtocolError(
            f"{url} answers {status}: {_message(body)} Expected an OpenAI-compatible server."
        )
    try:
        return msgspec.json.decode(body)
    except msgspec.MsgspecError as error:
        raise ProtocolError(
            f"{url} does not answer with JSON; expected an OpenAI-compatible server."
        ) from error


def _message(body: bytes) -> str:
    text = message_of_body(body)
    return text.rstrip(".") + "." if text else ""


def _models(base: str, listing: object) -> dict[str, dict[str, Any]]:
    entries = listing.get("data") if isinstance(listing, dict) else None
    models = {
        entry["id"]: entry
        for entry in entries or ()
        if isinstance(entry, dict) and isinstance(entry.get("id"), str)
    }
    if not models:
        raise ProtocolError(f"{base}/v1/models lists no model; is the server still starting?")
    return models


def _describe(base: str, name: str, models: Mapping[str, dict[str, Any]]) -> Server:
    entry = models[name]
    own = entry.get("fairlead")
    about: dict[str, Any] = own if isinstance(own, dict) else {}
    context = entry.get("max_model_len") or about.get("max_context")
    policy = about.get("policy")
    default = about.get("default_objective")
    return Server(
        url=base,
        model=name,
        models=tuple(models),
        is_fairlead=isinstance(own, dict),
        vocabulary=_vocabulary(about.get("vocab")),
        max_context=context if isinstance(context, int) else None,
        objectives=_objectives(about.get("objectives")),
        default_class=default if isinstance(default, str) else None,
        policy={str(k): str(v) for k, v in policy.items()} if isinstance(policy, dict) else {},
        fleet=str(about.get("fleet", "")),
    )


def _vocabulary(ends: object) -> Vocabulary:
    """The text ids that the model names, else ids that are ordinary tokens nearly everywhere."""
    if isinstance(ends, list) and len(ends) == 2 and all(isinstance(end, int) for end in ends):
        return Vocabulary(*ends)
    return ANY_MODEL


def _objectives(classes: object) -> dict[str, Objective]:
    if not isinstance(classes, dict):
        return {}
    return {
        str(name): make_objective(str(name), times if isinstance(times, dict) else {})
        for name, times in classes.items()
    }
