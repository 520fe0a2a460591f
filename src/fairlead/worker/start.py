"""Builds a worker from its settings: engine, tokenizer, latency model, instance."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from fairlead.engine.vllm import VllmEngineConfig
from fairlead.instance.instance import Instance
from fairlead.latency.coefficients import from_coefficients
from fairlead.latency.effects import PURE_NUMBERS, with_effect
from fairlead.latency.profile import Profile
from fairlead.latency.profile_file import load_profile
from fairlead.model import ConfigError, InstanceId, InstanceSpec, Role
from fairlead.policies import registry
from fairlead.policies.batching import Batching
from fairlead.worker.embedded import Embedded, load_embedded, load_vllm
from fairlead.worker.emulated import Emulated
from fairlead.worker.executor import Executor
from fairlead.worker.link import Address
from fairlead.worker.measure import measure
from fairlead.worker.opaque.build import build_opaque
from fairlead.worker.opaque.worker import OpaqueWorker
from fairlead.worker.peer_tls import peer_tls_of
from fairlead.worker.settings import WorkerSettings
from fairlead.worker.step_log import StepLog
from fairlead.worker.streams import Streams
from fairlead.worker.tls import tls_of
from fairlead.worker.words import Vocabulary, tokenizer_for
from fairlead.worker.worker import Worker

HANDOFF_BYTES_PER_S = 12.5e9
"""Between emulated instances: 100 Gbit/s, as in simulations."""


@dataclass(frozen=True, slots=True)
class _Engine:
    """An executor, and what a spec wants to know about it."""

    executor: Executor
    n_blocks: int
    max_context: int
    n_vocabulary: int
    kv_bytes_per_token: int
    latency: Mapping[str, float]
    hardware: str
    price_per_hour: float = 0.0


def build_worker(
    settings: WorkerSettings, token: str, tell: Callable[[str], None] = lambda line: None
) -> Worker | OpaqueWorker:
    """A worker ready to run. Loads the model, and measures it where the hardware is `auto`.

    Raises `FairleadError` for everything a user can have got wrong.
    """
    if settings.engine == "openai":
        return build_opaque(settings, token, tell)
    batching = build_batching(settings)
    vocabulary = Vocabulary(tokenizer_for(settings.model, settings.engine))
    engine = (
        _emulated(settings, vocabulary)
        if settings.engine == "emulated"
        else _in_process(settings, vocabulary, tell)
    )
    spec = _spec(settings, engine, batching.urgent_first)
    tell(
        f"{settings.engine} {settings.model}: {spec.n_blocks} KV blocks of {spec.block_tokens} "
        f"tokens, contexts up to {spec.max_context}"
    )
    return Worker(
        Instance(spec, batching, from_coefficients(spec.latency)),
        engine.executor,
        Streams(vocabulary),
        gateway=Address.parse(settings.join),
        token=token,
        n_vocabulary=engine.n_vocabulary,
        tell=tell,
        step_log=None if settings.step_log is None else StepLog(settings.step_log),
        tls=tls_of(settings),
        peer_tls=peer_tls_of(settings),
    )


def build_batching(settings: WorkerSettings) -> Batching:
    rng = Random(f"{settings.seed}/batching/{settings.name}")
    policy = registry.build("batching", settings.batching, settings.batching_params, rng)
    assert isinstance(policy, Batching)
    if policy.oracle is not None:
        raise ConfigError(
            f"batching policy {policy.name!r} needs to know how long answers will be, which only "
            "a simulation does; choose another one, or run `fairlead simulate`"
        )
    return policy


def _spec(settings: WorkerSettings, engine: _Engine, urgent_first: bool) -> InstanceSpec:
    room = engine.n_blocks * settings.block_tokens
    return InstanceSpec(
        id=InstanceId(settings.name or f"{socket.gethostname()}-{os.getpid()}"),
        pool=settings.pool,
        model=settings.model,
        n_blocks=engine.n_blocks,
        block_tokens=settings.block_tokens,
        max_sequences=settings.max_sequences,
        max_waiting=settings.max_waiting,
        max_context=min(settings.max_context or engine.max_context, engine.max_context, room),
        role=Role(settings.role),
        urgent_first=urgent_first,
        latency=engine.latency,
        kv_bytes_per_token=engine.kv_bytes_per_token,
        hardware=engine.hardware,
        price_per_hour=engine.price_per_hour,
        incarnation=secrets.token_hex(8),
    )


def _emulated(settings: WorkerSettings, vocabulary: Vocabulary) -> _Engine:
    profile = load_profile(settings.hardware)
    return _Engine(
        Emulated(
            vocabulary.passage,
            vocabulary.eos_token_id,
            copy_s_per_token=profile.kv_bytes_per_token / HANDOFF_BYTES_PER_S / settings.speed,
        ),
        _profile_blocks(settings, profile),
        profile.max_context,
        vocabulary.size,
        profile.kv_bytes_per_token,
        with_effect(
            faster(profile.coefficients, settings.speed), settings.effect, settings.effect_params
        ),
        profile.name,
        profile.price_per_hour or 0.0,
    )


def _profile_blocks(settings: WorkerSettings, profile: Profile) -> int:
    if settings.n_blocks is not None:
        return settings.n_blocks
    if settings.kv_bytes is None:
        return profile.n_blocks(settings.block_tokens)
    block_bytes = profile.kv_bytes_per_token * settings.block_tokens
    if settings.kv_bytes < block_bytes:
        raise ConfigError(
            f"kv_bytes is {settings.kv_bytes}, but one block of {settings.block_tokens} tokens "
            f"takes {block_bytes} on {profile.name}"
        )
    return settings.kv_bytes // block_bytes


def faster(coefficients: Mapping[str, float], speed: float) -> dict[str, float]:
    """Coefficients of an engine `speed` times as fast."""
    return {
        name: value if name in PURE_NUMBERS else value / speed
        for name, value in coefficients.items()
    }


def _in_process(
    settings: WorkerSettings, vocabulary: Vocabulary, tell: Callable[[str], None]
) -> _Engine:
    """An engine that computes in this process: ours, or vLLM."""
    embedded = _vllm(settings, vocabulary) if settings.engine == "vllm" else _embedded(settings)
    try:
        engine = embedded.engine
        return _Engine(
            embedded,
            engine.n_blocks,
            engine.max_context,
            engine.vocab_size,
            engine.kv_token_bytes,
            _latency(settings, embedded, tell),
            settings.hardware if settings.hardware != "auto" else engine.device,
        )
    except BaseException:
        embedded.close()
        raise


def _embedded(settings: WorkerSettings) -> Embedded:
    return load_embedded(
        settings.model,
        dtype=settings.dtype,
        device=settings.device,
        threads=settings.threads,
        block_tokens=settings.block_tokens,
        n_blocks=settings.n_blocks,
        kv_bytes=settings.kv_bytes,
    )


def _vllm(settings: WorkerSettings, vocabulary: Vocabulary) -> Embedded:
    return load_vllm(
        VllmEngineConfig(
            settings.model,
            eos_token_ids=vocabulary.ends,
            dtype=settings.dtype,
            threads=settings.threads,
            block_tokens=settings.block_tokens,
            n_blocks=settings.n_blocks,
            kv_bytes=settings.kv_bytes,
            max_sequences=settings.max_sequences,
            max_context=settings.max_context,
            engine_args=settings.engine_args,
        )
    )


def _latency(
    settings: WorkerSettings, embedded: Embedded, tell: Callable[[str], None]
) -> Mapping[str, float]:
    if settings.hardware != "auto":
        return load_profile(settings.hardware).coefficients
    engine = embedded.engine
    points = embedded.call(
        lambda: measure(
            engine,
            n_blocks=engine.n_blocks,
            block_tokens=settings.block_tokens,
            max_context=engine.max_context,
        )
    )
    # Imported here: numpy is a fifth of an emulated worker's start, and it needs none of it.
    from fairlead.latency.fit import fit_linear

    tell(f"measured {len(points)} step shapes")
    return fit_linear(points).coefficients()
