"""Builds the worker of a server from its settings."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from fairlead.latency.profile_file import load_profile
from fairlead.model import ConfigError, InstanceId, InstanceSpec, Role
from fairlead.text import Tokenizer
from fairlead.worker.link import Address
from fairlead.worker.opaque.api import Api
from fairlead.worker.opaque.introduce import Asked, Facts
from fairlead.worker.opaque.measure import measure
from fairlead.worker.opaque.measure_embedding import measure_embedding
from fairlead.worker.opaque.setting import Patience, Setting
from fairlead.worker.opaque.subscribe import check_available
from fairlead.worker.opaque.worker import OpaqueWorker
from fairlead.worker.settings import WorkerSettings
from fairlead.worker.tls import tls_of
from fairlead.worker.words import Vocabulary


def build_opaque(settings: WorkerSettings, token: str, tell: Callable[[str], None]) -> OpaqueWorker:
    """Asks nobody yet. Raises `FairleadError` for everything a user can have got wrong."""
    if settings.kv_events is not None:
        check_available()
    if settings.hardware != "auto":
        load_profile(settings.hardware)  # A mistake is told before anybody is waited for.
    setting = Setting(
        Api(settings.url, _key(settings.api_key_file)),
        Vocabulary(Tokenizer.load(settings.tokenizer or settings.model)),
        Address.parse(settings.join),
        token,
        tell,
        Patience(settings.first_token_timeout_s, settings.next_token_timeout_s),
        settings.kv_events,
        settings.kv_replay,
        tls_of(settings),
    )
    asked = Asked(settings.served_as or settings.model, settings.prompts, settings.max_context)
    return OpaqueWorker(
        setting, asked, partial(_spec, settings), partial(_latency, settings, setting)
    )


def _key(file: str | None) -> str:
    if file is None:
        return ""
    try:
        key = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ConfigError(f"cannot read api_key_file {file!r}: {reason}") from error
    if not key or not key.isprintable() or not key.isascii():
        raise ConfigError(f"api_key_file {file!r} must hold one key on one line, and nothing else")
    return key


async def _latency(settings: WorkerSettings, setting: Setting, facts: Facts) -> Mapping[str, float]:
    if settings.hardware != "auto":
        return load_profile(settings.hardware).coefficients
    setting.tell(f"measuring {setting.api.url} with a few small requests")
    find = measure_embedding if facts.dialect.embeds_only else measure
    return await find(
        setting.api,
        facts.dialect,
        setting.words,
        max_sequences=settings.max_sequences,
        seed=secrets.token_hex(8),
    )


def _spec(settings: WorkerSettings, facts: Facts, latency: Mapping[str, float]) -> InstanceSpec:
    n_blocks = _n_blocks(settings, facts)
    return InstanceSpec(
        id=InstanceId(settings.name or f"{socket.gethostname()}-{os.getpid()}"),
        pool=settings.pool,
        model=settings.model,
        n_blocks=n_blocks,
        block_tokens=settings.block_tokens,
        max_sequences=min(settings.max_sequences, facts.max_sequences or settings.max_sequences),
        max_waiting=settings.max_waiting,
        max_context=min(facts.max_context, n_blocks * settings.block_tokens),
        role=Role(settings.role),
        latency=latency,
        hardware=settings.hardware if settings.hardware != "auto" else facts.dialect.kind.value,
        price_per_hour=_price(settings.hardware),
        incarnation=secrets.token_hex(8),
    )


def _price(hardware: str) -> float:
    return 0.0 if hardware == "auto" else load_profile(hardware).price_per_hour or 0.0


def _n_blocks(settings: WorkerSettings, facts: Facts) -> int:
    """What the fleet file says, or the server, or a profile; else memory is taken not to be what
    limits it."""
    if settings.n_blocks is not None:
        return settings.n_blocks
    if facts.load.kv_tokens is not None:
        return max(facts.load.kv_tokens // settings.block_tokens, 1)
    if settings.hardware != "auto":
        return load_profile(settings.hardware).n_blocks(settings.block_tokens)
    return settings.max_sequences * -(-facts.max_context // settings.block_tokens)
