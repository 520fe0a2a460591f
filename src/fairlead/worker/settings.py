"""Everything that tells one worker what to be, as one value."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fairlead.engine.vllm.config import engine_args_problems
from fairlead.latency.effects import NO_EFFECT, effect_problems
from fairlead.model import ConfigError, Role
from fairlead.worker.link import Address

ENGINES = ("embedded", "emulated", "vllm", "openai")
IN_PROCESS = ("embedded", "vllm")
"""Those that compute in the worker's own process, with its machine's cores."""
PROMPTS = ("auto", "tokens", "text", "chat")


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
    """CPU threads of an embedded engine or of vLLM; None leaves it torch's choice."""
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
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    """More arguments of vLLM's own, by its names for them (`vllm`)."""
    url: str = ""
    """Of the server behind an `openai` engine."""
    api_key_file: str | None = None
    """Holds the key that it wants."""
    served_as: str = ""
    """The model's name there; empty where it is the same."""
    tokenizer: str = ""
    """Whose tokenizer the model has; empty where the model is a folder or a hub name itself."""
    prompts: str = "auto"
    """What prompts are sent as: tokens, text or chat; `auto` finds out which of the first two."""
    kv_events: str | None = None
    """Where the server publishes events of its cache, such as tcp://127.0.0.1:5557."""
    kv_replay: str | None = None
    """Where it repeats those that were missed."""
    first_token_timeout_s: float = 300.0
    """A stream of an `openai` engine without a token for so long is stuck, and goes elsewhere."""
    next_token_timeout_s: float = 60.0
    """The same once it has begun."""
    tls_ca: str = ""
    """A PEM file; the gateway must show a certificate that one of these authorities has signed, for
    the host of `join`. Empty: no TLS."""
    tls_cert: str = ""
    """What the gateway is shown, where it wants that."""
    tls_key: str = ""
    """The key of that; empty where it is in the same file."""
    tls_peers_ca: str = ""
    """Authorities of other workers' certificates, for hand-offs, which go over TLS where there is a
    `tls_cert`; empty takes those of `tls_ca`."""

    def __post_init__(self) -> None:
        if problems := list(self._problems()):
            raise ConfigError(f"worker {self.name or self.model!r}: {'; '.join(problems)}")

    def _problems(self) -> Iterator[str]:
        try:
            Address.parse(self.join)
        except ConfigError as error:
            yield str(error)
        if (self.tls_cert or self.tls_key) and not (self.tls_ca and self.tls_cert):
            yield "tls_key needs tls_cert, and tls_cert needs tls_ca, which turns TLS on"
        if self.tls_peers_ca and not self.tls_cert:
            yield "tls_peers_ca is for hand-offs over TLS, which need a tls_cert"
        if self.engine not in ENGINES:
            yield f"engine must be one of {', '.join(ENGINES)}, got {self.engine!r}"
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
        yield from self._server_problems()
        yield from self._vllm_problems()

    def _server_problems(self) -> Iterator[str]:
        if self.engine == "openai" and not self.url:
            yield "an openai engine needs the url of its server, such as http://127.0.0.1:8000"
        for name in ("url", "api_key_file", "served_as", "kv_events"):
            if self.engine != "openai" and getattr(self, name):
                yield f"{name} is for openai engines, and this one is {self.engine}"
        if self.prompts not in PROMPTS:
            yield f"prompts must be one of {', '.join(PROMPTS)}, got {self.prompts!r}"
        if self.kv_replay and not self.kv_events:
            yield "kv_replay repeats kv_events, which must be given too"
        for name in ("first_token_timeout_s", "next_token_timeout_s"):
            if not 0 < getattr(self, name) < float("inf"):
                yield f"{name} must be positive and finite, got {getattr(self, name)}"

    def _vllm_problems(self) -> Iterator[str]:
        if self.engine == "vllm":
            yield from engine_args_problems(self.engine_args)
            if self.device != "auto":
                yield (
                    f"device is for embedded engines, got {self.device!r}; vLLM runs on what it "
                    "was built for, and CUDA_VISIBLE_DEVICES says on which of them"
                )
        elif self.engine_args:
            yield f"engine_args are for vllm engines, and this one is {self.engine}"

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
            "engine-args": json.dumps(dict(self.engine_args)),
            "url": self.url or None,
            "api-key-file": self.api_key_file,
            "served-as": self.served_as or None,
            "tokenizer": self.tokenizer or None,
            "prompts": self.prompts,
            "kv-events": self.kv_events,
            "kv-replay": self.kv_replay,
            "first-token-timeout-s": self.first_token_timeout_s,
            "next-token-timeout-s": self.next_token_timeout_s,
            "tls-ca": self.tls_ca or None,
            "tls-cert": self.tls_cert or None,
            "tls-key": self.tls_key or None,
            "tls-peers-ca": self.tls_peers_ca or None,
        }
        # One word each, so that a value that begins with a dash stays a value.
        return [f"--{name}={value}" for name, value in values.items() if value is not None]
