"""A worker as the fleet file describes its pool: of `fairlead serve`, or started by hand."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from fairlead.fleet.config import FleetConfig
from fairlead.fleet.pool_config import PoolConfig
from fairlead.model import ConfigError
from fairlead.worker.settings import IN_PROCESS, WorkerSettings


def worker_setting(
    config: FleetConfig, pool_name: str, i: int, join: str, seed: int
) -> WorkerSettings:
    """The pool's worker number `i`."""
    pool = next(pool for pool in config.pools if pool.name == pool_name)
    name = f"{pool.name}-{i}" if len(config.pools) > 1 else f"i{i}"
    own = {
        "join": join,
        "name": name,
        "seed": seed + i,
        "threads": pool.threads or _share_of_cores(config, pool),
        **_server(pool, i),
    }
    return WorkerSettings(**_common(config, pool, name) | own)


def setting_by_hand(
    config: FleetConfig, pool_name: str | None, given: Mapping[str, Any]
) -> WorkerSettings:
    """A worker of the pool that somebody starts; what is `given` goes before what the file says.
    Raises `ConfigError`."""
    pool = _pool(config, pool_name)
    # Its server, where it stands for one, is told by who starts it: the file's have workers.
    own: dict[str, Any] = {"threads": pool.threads}
    # Parameters are those of the policy, or effect, that the file names.
    own |= {f"{name}_params": {} for name in ("batching", "effect") if name in given}
    common = _common(config, pool, str(given.get("name", pool.name)))
    return WorkerSettings(**{**common, **own, **given})


def _pool(config: FleetConfig, name: str | None) -> PoolConfig:
    known = {pool.name: pool for pool in config.pools}
    if name is None and len(known) == 1:
        return config.pools[0]
    if name not in known:
        said = "name one with --pool" if name is None else f"there is no pool {name!r}"
        raise ConfigError(f"{said}; the fleet file has {', '.join(known)}")
    return known[name]


def _common(config: FleetConfig, pool: PoolConfig, name: str) -> dict[str, Any]:
    """What all workers of a pool are alike in; `name` is for their files."""
    return {
        "model": pool.model,
        "engine": pool.engine,
        "hardware": pool.hardware,
        "pool": pool.name,
        "role": pool.role,
        "batching": config.policy.batching,
        "batching_params": config.policy.params.get("batching", {}),
        "dtype": pool.dtype,
        "device": pool.device,
        "block_tokens": pool.block_tokens,
        "n_blocks": pool.n_blocks,
        "kv_bytes": None if pool.kv_gib is None else int(pool.kv_gib * 2**30),
        "max_sequences": pool.max_sequences,
        "max_waiting": pool.max_waiting,
        "max_context": pool.max_context,
        "speed": pool.speed,
        "effect": pool.effect,
        "effect_params": pool.effect_params,
        "step_log": pool.step_log and pool.step_log.replace("{name}", name),
        "engine_args": pool.engine_args,
        "api_key_file": pool.api_key_file,
        "served_as": pool.served_as,
        "tokenizer": pool.tokenizer,
        "prompts": pool.prompts,
        "first_token_timeout_s": pool.first_token_timeout_s,
        "next_token_timeout_s": pool.next_token_timeout_s,
    }


def _server(pool: PoolConfig, i: int) -> dict[str, Any]:
    """The server that worker number `i` stands for."""
    return {
        "url": pool.urls[i] if pool.urls else "",
        "kv_events": pool.kv_events[i] if pool.kv_events else None,
        "kv_replay": pool.kv_replay[i] if pool.kv_replay else None,
    }


def _share_of_cores(config: FleetConfig, pool: PoolConfig) -> int | None:
    """CPU threads of an engine that computes: what it has of a Ray node, or its share of this
    machine."""
    if pool.engine not in IN_PROCESS:
        return None
    if pool.provisioner == "ray":
        return max(int(pool.num_cpus), 1)
    here = (p for p in config.pools if p.engine in IN_PROCESS and p.provisioner == "local")
    return max((os.cpu_count() or 1) // max(sum(p.instances for p in here), 1), 1)
