"""What a fleet file says of one pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fairlead.fleet.pools import PoolBounds
from fairlead.latency.effects import NO_EFFECT, effect_problems
from fairlead.model import Role
from fairlead.policies import registry

GROWTH = 4
PROVISIONERS = ("local", "ray", "kubernetes")
ROLES = tuple(role.value for role in Role)


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """`[[pool]]`: interchangeable instances."""

    name: str = "default"
    model: str = "fairlead-nano"
    """Built in; or a local folder in Hugging Face format, or a hub name."""
    engine: str = "embedded"
    """embedded | emulated | vllm | openai"""
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    """More arguments of vLLM's own, by its names for them (`vllm`)."""
    urls: tuple[str, ...] = ()
    """Of the servers behind an `openai` pool, one instance each."""
    api_key_file: str | None = None
    """Holds the key that they want."""
    served_as: str = ""
    """The model's name there; empty where it is the same."""
    tokenizer: str = ""
    """Folder or hub name of the model's tokenizer; empty where `model` is one itself."""
    prompts: str = "auto"
    """What prompts are sent as: tokens | text | chat; `auto` finds out which of the first two."""
    kv_events: tuple[str, ...] = ()
    """Where each of the servers publishes events of its cache, such as tcp://127.0.0.1:5557."""
    kv_replay: tuple[str, ...] = ()
    """Where each of them repeats those that were missed."""
    first_token_timeout_s: float = 300.0
    """A stream of an `openai` pool without a token for so long is stuck, and goes elsewhere."""
    next_token_timeout_s: float = 60.0
    """The same once it has begun."""
    instances: int = 1
    """Workers that `serve` starts; 0 leaves it to workers that join by themselves."""
    min_instances: int = 1
    max_instances: int | None = None
    """Between these a scaling policy moves; None is four times `instances`."""
    provisioner: str = "local"
    """What `serve` starts workers as: processes on this machine, actors on the cluster of the
    `[ray]` table, or pods on the one of `[kubernetes]`."""
    num_cpus: float = 1.0
    """What each instance takes of a Ray node."""
    num_gpus: float = 0.0
    resources: Mapping[str, float] = field(default_factory=dict)
    """The same of resources that the nodes were given names for, such as { a100 = 1 }."""
    deployment: str = ""
    """Of the pool's workers on Kubernetes; empty takes the pool's name."""
    role: str = "mixed"
    hardware: str = "auto"
    """A latency profile by name or file; `auto` measures the engine at start."""
    threads: int | None = None
    """CPU threads of each embedded engine or vLLM; None shares the machine's cores among them."""
    dtype: str = "auto"
    device: str = "auto"
    block_tokens: int = 16
    n_blocks: int | None = None
    """KV blocks of each instance; None derives them from `kv_gib` or from the hardware."""
    kv_gib: float | None = None
    """Memory for KV of each instance, in GiB."""
    max_sequences: int = 256
    max_waiting: int = 1024
    max_context: int | None = None
    speed: float = 1.0
    """An emulated engine runs so many times faster than its profile says."""
    effect: str = NO_EFFECT
    """How an emulated engine runs its steps, and so what they cost: none | nanoflow | semi-pd."""
    effect_params: Mapping[str, Any] = field(default_factory=dict)
    """Its parameters, see `fairlead.latency`."""
    step_log: str | None = None
    """A file for the shape and the duration of every step of a worker; `{name}` in it becomes the
    worker's name."""

    def __post_init__(self) -> None:
        self._check_servers()
        self._check_provisioner()
        if self.instances < 0:
            raise ValueError(f"instances must be at least 0, got {self.instances}")
        if self.kv_gib is not None and self.kv_gib <= 0:
            raise ValueError(f"kv_gib must be positive, got {self.kv_gib}")
        if not 0 <= self.min_instances <= self.bounds.max_instances:
            raise ValueError(
                f"min_instances must be from 0 to max_instances, got {self.min_instances} and "
                f"{self.bounds.max_instances}"
            )
        if self.role not in ROLES:
            known = registry.suggest(self.role, list(ROLES))
            raise ValueError(f"role must be one of {', '.join(ROLES)}, got {self.role!r}{known}")
        if problems := effect_problems(self.effect, self.effect_params, self.engine):
            raise ValueError("; ".join(problems))

    def _check_provisioner(self) -> None:
        if self.provisioner not in PROVISIONERS:
            known = registry.suggest(self.provisioner, list(PROVISIONERS))
            raise ValueError(
                f"provisioner must be one of {', '.join(PROVISIONERS)}, got "
                f"{self.provisioner!r}{known}"
            )
        given = {
            "num_cpus": (self.num_cpus != 1.0, "ray"),
            "num_gpus": (self.num_gpus != 0.0, "ray"),
            "resources": (bool(self.resources), "ray"),
            "deployment": (bool(self.deployment), "kubernetes"),
        }
        for name, (is_given, owner) in given.items():
            if is_given and self.provisioner != owner:
                raise ValueError(f'{name} needs provisioner = "{owner}"')
        amounts = {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus, **self.resources}
        for name, amount in amounts.items():
            if isinstance(amount, bool) or not isinstance(amount, int | float):
                raise ValueError(f"resources.{name} must be a number, got {amount!r}")
            if not 0 <= amount < float("inf"):
                raise ValueError(f"{name} must be at least 0, got {amount:g}")
        if self.urls and self.provisioner == "kubernetes":
            raise ValueError(
                "pods are all alike, and an openai pool's workers have each a server of its own; "
                "leave urls and provisioner out, with one worker beside each server"
            )

    def _check_servers(self) -> None:
        """As many instances as servers, unless the workers join by themselves."""
        n = len(self.urls)
        if (self.engine == "openai") != bool(n) and self.instances:
            raise ValueError(
                "an openai pool needs urls, one for each of its servers, and no other has any; "
                "with instances = 0 its workers join by themselves"
            )
        if n and self.instances not in (1, n):
            raise ValueError(f"there is one instance for each of {n} urls; leave instances out")
        if n:
            object.__setattr__(self, "instances", n)
        for name in ("kv_events", "kv_replay"):
            if getattr(self, name) and len(getattr(self, name)) != n:
                raise ValueError(f"{name} must name one address for each of {n} urls")

    @property
    def bounds(self) -> PoolBounds:
        most = self.max_instances
        if self.urls:
            most = self.instances  # Nobody here can start another server.
        elif most is None:
            most = max(GROWTH * self.instances, 1)
        least = min(self.min_instances, self.instances) if self.instances else 0
        return PoolBounds(self.name, self.model, self.instances, least, most)
