"""What a fleet file says, as values: one dataclass a table, checked once, all problems together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from fairlead.fleet.fleet import Fleet
from fairlead.fleet.limits import Limits
from fairlead.fleet.pool_config import PoolConfig
from fairlead.fleet.table import read_table
from fairlead.model import BATCH, ConfigError, Objective, Role
from fairlead.policies import registry
from fairlead.workload.objectives import ObjectiveMix, make_objective


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """`[policy]`: a policy of each family by name. The defaults are Fairlead's own."""

    admission: str = "predicted"
    fairness: str = "none"
    """`vtc` where the file has a `[tenants]` table."""
    routing: str = "prefix-load"
    batching: str = "slack"
    rescheduling: str = "predicted-gain"
    roles: str = "none"
    scaling: str = "none"
    params: Mapping[str, Any] = field(default_factory=dict)
    """Parameters by family."""

    def __post_init__(self) -> None:
        for family, given in self.params.items():
            if family not in registry.FAMILIES:
                known = registry.suggest(family, list(registry.FAMILIES))
                raise ValueError(f"params has no family {family!r}{known}")
            if not isinstance(given, Mapping):
                raise ValueError(f"params.{family} must be a table, got {given!r}")
        for family in registry.FAMILIES:
            self.build(family, 0)

    def build(self, family: str, seed: int, owner: str = "") -> Any:
        """A new policy of the family, with randomness of its own from the seed and its owner."""
        params = self.params.get(family, {})
        rng = Random(f"{seed} {family} {owner}")
        return registry.build(family, getattr(self, family), params, rng)

    def names(self) -> dict[str, str]:
        """Family to name."""
        return {family: getattr(self, family) for family in registry.FAMILIES}


@dataclass(frozen=True, slots=True)
class FleetConfig:
    """A whole fleet file."""

    pools: tuple[PoolConfig, ...]
    policy: PolicyConfig = PolicyConfig()
    limits: Limits = Limits()
    workload: ObjectiveMix = field(default_factory=ObjectiveMix)
    """The objective classes, and which share of a trace is of which."""
    gateway: Mapping[str, Any] = field(default_factory=dict)
    """The `[gateway]` table, which only `serve` reads."""
    tenants: Mapping[str, Any] = field(default_factory=dict)
    """The `[tenants]` table, likewise; a simulation knows by it that there are keys."""
    batches: Mapping[str, Any] = field(default_factory=dict)
    """The `[batches]` table, likewise."""
    ray: Mapping[str, Any] = field(default_factory=dict)
    """The `[ray]` table, likewise."""
    kubernetes: Mapping[str, Any] = field(default_factory=dict)
    """The `[kubernetes]` table, likewise."""
    simulation: Mapping[str, Any] = field(default_factory=dict)
    """The `[simulation]` table, which only `simulate` and its kin read."""

    @property
    def keeps_tenants_apart(self) -> bool:
        """Whether callers have keys, and with them cached prefixes that are theirs alone."""
        return bool(self.tenants or self.gateway.get("api_keys"))

    @property
    def objectives(self) -> Mapping[str, Objective]:
        return self.workload.classes

    def fleet(self, seed: int = 0) -> Fleet:
        """The Fleet that this file describes, with no instance yet."""
        return Fleet(
            self.policy.build("routing", seed),
            self.policy.build("admission", seed),
            self.limits,
            fairness=self.policy.build("fairness", seed),
            models=[pool.model for pool in self.pools],
            rescheduling=self.policy.build("rescheduling", seed),
            roles=self.policy.build("roles", seed),
            pools=[
                (pool.bounds, self.policy.build("scaling", seed, pool.name)) for pool in self.pools
            ],
        )


TABLES = (
    "gateway",
    "tenants",
    "batches",
    "pool",
    "policy",
    "objectives",
    "workload",
    "limits",
    "ray",
    "kubernetes",
    "simulation",
)


def read_config(tables: Mapping[str, Any]) -> FleetConfig:
    """The fleet that the tables of a fleet file describe; raises one `ConfigError` for all that is
    wrong with them."""
    problems = [
        f"no table is called [{name}]{registry.suggest(name, list(TABLES))}"
        for name in tables
        if name not in TABLES
    ]

    def attempt(read: Any, *arguments: Any) -> Any:
        try:
            return read(*arguments)
        except ConfigError as error:
            problems.append(str(error))
            return None

    pools = attempt(_pools, tables.get("pool", [{}]))
    policy = attempt(_policy, tables.get("policy", {}), "tenants" in tables)
    limits = attempt(read_table, Limits, tables.get("limits", {}), "limits")
    workload = attempt(_workload, tables.get("objectives", {}), tables.get("workload", {}))
    for name in ("gateway", "tenants", "batches", "ray", "kubernetes", "simulation"):
        if not isinstance(tables.get(name, {}), Mapping):
            problems.append(f"[{name}] must be a table")
    if problems:
        raise ConfigError("\n".join(problems))
    return FleetConfig(
        pools,
        policy,
        limits,
        workload,
        tables.get("gateway", {}),
        tables.get("tenants", {}),
        tables.get("batches", {}),
        tables.get("ray", {}),
        tables.get("kubernetes", {}),
        tables.get("simulation", {}),
    )


def _policy(table: object, with_tenants: bool) -> PolicyConfig:
    if with_tenants and isinstance(table, Mapping):
        table = {"fairness": "vtc", **table}
    return read_table(PolicyConfig, table, "policy")


def _pools(tables: object) -> tuple[PoolConfig, ...]:
    if not isinstance(tables, list) or not tables:
        raise ConfigError("pools are written as [[pool]], once for each")
    pools = tuple(read_table(PoolConfig, table, f"pool {i + 1}") for i, table in enumerate(tables))
    names = [pool.name for pool in pools]
    if len(set(names)) < len(names):
        raise ConfigError(f"every pool needs a name of its own, got {', '.join(names)}")
    for pool in pools:
        for other in pools:
            if pool.model == other.model and pool.block_tokens != other.block_tokens:
                raise ConfigError(
                    f"pools {pool.name!r} and {other.name!r} serve the same model with different "
                    "block_tokens; a prefix could not be found in both"
                )
        roles = {other.role for other in pools if other.model == pool.model}
        if len(roles) == 1 and pool.role != Role.MIXED.value:
            other_role = "decode" if pool.role == "prefill" else "prefill"
            raise ConfigError(
                f"pool {pool.name!r} is for {pool.role} only, and no pool of {pool.model!r} has "
                f"the role {other_role!r} or 'mixed'"
            )
    return pools


def _workload(objectives: object, workload: object) -> ObjectiveMix:
    if not isinstance(objectives, Mapping):
        raise ConfigError("[objectives] must hold a table for each class")
    classes = {}
    for name, times in objectives.items():
        if not isinstance(times, Mapping):
            raise ConfigError(f"objectives.{name} must be a table such as {{ ttft_s = 1.0 }}")
        classes[name] = make_objective(name, times)
    classes = classes or {BATCH.name: BATCH}
    table = read_table(_WorkloadTable, workload, "workload")
    default = table.default or next(iter(classes))
    for name, share in table.mix.items():
        if isinstance(share, bool) or not isinstance(share, int | float):
            raise ConfigError(f"workload.mix.{name} must be a number, got {share!r}")
    return ObjectiveMix(classes, default, table.mix)


@dataclass(frozen=True, slots=True)
class _WorkloadTable:
    default: str = ""
    mix: Mapping[str, float] = field(default_factory=dict)
