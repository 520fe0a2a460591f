"""Everything that tells one worker what to be, as one value."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fairlead.latency.effects import NO_EFFECT, effect_problems
from fairlead.model import ConfigError, Role
from fairlead.worker.link import Address

ENGINES = ("embedded", "emulated", "vllm", "openai")
SUPPORTED = ("embedded", "emulated")


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """The options of `fairlead worker`, which also builds one from a fleet file's pool. Checked at
    construction, all problems in one `ConfigError`."""

    join: str
    """HOST:PORT of the gateway's port for workers."""
    model: str
    engine: str = "embedded"
    hardware: str = "auto"
    """A latency profile; `auto` measures the engine at start."""
    name: str = ""
    """What the instance would like to be called; empty lets host and process number tell."""
    pool: str = "default"
    role: str = "mixed"
    batching: str = "fcfs"
    batching_params: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    """Of the batching policy's randomness."""
    threads: int | None = None
    """CPU threads of the embedded engine; None leaves it torch's choice."""
    dtype: str = "auto"
    device: str = "auto"
    block_tokens: int = 16
    n_blocks: int | None = None
    """KV blocks; None derives them from `kv_bytes`, or from the hardware."""
    kv_bytes: int | None = None
    max_sequences: int = 256
    max_waiting: int = 1024
    max_context: int | None = None
    """Tokens of prompt and output together; None takes the model's own limit."""
    speed: float = 1.0
    """An emulated engine runs so many times faster than its profile says."""
    effect: str = NO_EFFECT
    """How an emulated engine runs its steps, see `fairlead.latency`."""
    effect_params: Mapping[str, Any] = field(default_factory=dict)
    step_log: str | None = None
    """A file for the shape and the duration of every step."""

    def __post_init__(self) -> None:
        if problems := list(self._problems()):
            raise ConfigError(f"worker {self.name or self.model!r}: {'; '.join(problems)}")

    def _problems(self) -> Iterator[str]:
        try:
            Address.parse(self.join)
        except ConfigError as error:
            yield str(error)
        if self.engine not in ENGINES:
            yield f"engine must be one of {', '.join(ENGINES)}, got {self.engine!r}"
        elif self.engine not in SUPPORTED:
            yield (
                f"engine {self.engine!r} is not in this version of Fairlead; "
                f"use {' or '.join(SUPPORTED)}"
            )
        elif self.engine == "emulated" and self.hardware == "auto":
            yield "an emulated engine needs the name of a latency profile as its hardware"
        if not self.model:
            yield "model must not be empty"
        roles = [role.value for role in Role]
        if self.role not in roles:
            yield f"role must be one of {', '.join(roles)}, got {self.role!r}"
        if not 0 < self.speed < float("inf"):
            yield f"speed must be positive and finite, got {self.speed}"
        yield from effect_problems(self.effect, self.effect_params, self.engine)
        yield from self._count_problems()

    def _count_problems(self) -> Iterator[str]:
        for name in (
            "threads",
            "block_tokens",
            "n_blocks",
            "kv_bytes",
            "max_sequences",
            "max_waiting",
            "max_context",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                yield f"{name} must be at least 1, got {value}"

    def arguments(self) -> list[str]:
        """The arguments after `fairlead worker` that make these settings."""
        values = {
            "join": self.join,
            "model": self.model,
            "engine": self.engine,
            "hardware": self.hardware,
            "name": self.name,
            "pool": self.pool,
            "role": self.role,
            "batching": self.batching,
            "batching-params": json.dumps(dict(self.batching_params)),
            "seed": self.seed,
            "threads": self.threads,
            "dtype": self.dtype,
            "device": self.device,
            "block-tokens": self.block_tokens,
            "n-blocks": self.n_blocks,
            "kv-bytes": self.kv_bytes,
            "max-sequences": self.max_sequences,
            "max-waiting": self.max_waiting,
            "max-context": self.max_context,
            "speed": self.speed,
            "effect": self.effect,
            "effect-params": json.dumps(dict(self.effect_params)),
            "step-log": self.step_log,
        }
        # One word each, so that a value that begins with a dash stays a value.
        return [f"--{name}={value}" for name, value in values.items() if value is not None]
