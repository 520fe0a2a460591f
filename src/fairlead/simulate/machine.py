"""A machine: one instance in virtual time, and its links with the fleet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random

from fairlead import latency
from fairlead.fleet.config import FleetConfig
from fairlead.fleet.pool_config import PoolConfig
from fairlead.instance import Instance
from fairlead.model import (
    ConfigError,
    Event,
    Handoff,
    InstanceDown,
    InstanceId,
    InstanceSpec,
    RequestId,
    Role,
)
from fairlead.policies.batching import Batching
from fairlead.simulate.heap import Heap
from fairlead.simulate.network import Link, PeerLink
from fairlead.simulate.node import Node
from fairlead.simulate.settings import Settings
from fairlead.simulate.transfer import Transfer
from fairlead.workload.percentiles import Histogram


class World:
    """What all machines of a run share."""

    __slots__ = (
        "config",
        "gaps",
        "heap",
        "lengths",
        "machines",
        "pauses",
        "seed",
        "settings",
        "single_steps",
        "wake",
    )

    def __init__(
        self,
        config: FleetConfig,
        seed: int,
        heap: Heap,
        settings: Settings,
        lengths: Mapping[RequestId, int],
        gaps: Histogram,
        single_steps: bool,
    ) -> None:
        self.config = config
        self.seed = seed
        self.heap = heap
        self.settings = settings
        self.lengths = lengths
        self.gaps = gaps
        self.single_steps = single_steps
        self.machines: dict[InstanceId, Machine] = {}
        self.wake: Callable[[Machine], None] = lambda machine: None
        """Called where a machine gets something to report by another way than from the fleet."""
        self.pauses = Histogram()
        """How long streams stood still for a hand-off."""


class Machine:
    """Starts its instance at once, and never stops."""

    stopped = False
    """It was told to end, and has."""
    resting = False
    """It has nothing to report until it is sent something."""

    def __init__(
        self, world: World, pool: PoolConfig, i: int, hear: Callable[[list[Event]], None]
    ) -> None:
        """The `i`-th of its pool. `hear` takes a frame where the way to the fleet ends."""
        self.name = InstanceId(f"{pool.name}-{i}")
        self.pool = pool
        self._up_since_s = world.heap.now
        self._ended_s: float | None = None
        offset = (i % pool.instances + 1) / (pool.instances + 1) if pool.instances else 0.5
        self.first_report_s = world.heap.now + world.settings.report_s * offset
        """Reports of different instances do not fall on one instant."""
        self._world = world
        self._hear = hear
        self.to_fleet = self._link(f"{self.name} to fleet")
        self.to_instance = self._link(f"fleet to {self.name}")
        self.node = self._start()
        peers_rng = Random(f"{world.seed} link {self.name} to peers")
        bytes_per_s = self.spec.handoff_bytes_per_s
        self.to_peers = PeerLink(world.heap, world.settings, peers_rng, bytes_per_s)

    @property
    def alive(self) -> bool:
        return not self.stopped

    @property
    def spec(self) -> InstanceSpec:
        return self.node.instance.spec

    @property
    def busy_s(self) -> float:
        return self.node.instance.busy_s

    @property
    def preemptions(self) -> int:
        return self.node.instance.preemptions

    @property
    def idle(self) -> bool:
        return not self.node.instance.attempts

    def up_s(self) -> float:
        """Seconds for which it has been up so far."""
        end_s = self._world.heap.now if self._ended_s is None else self._ended_s
        return end_s - self._up_since_s

    @property
    def hears_peers(self) -> bool:
        """Whether it listens to other instances now."""
        return not self.stopped

    def stop(self, _: None) -> None:
        """A message of the fleet: it is empty, and ends. If something has come, it is not."""
        if not self.stopped and not self.node.instance.attempts:
            self.stopped, self._ended_s = True, self._world.heap.now
            self.to_fleet.send(self._hear, [InstanceDown(self.name, "stopped")])

    def report(self) -> None:
        self.node.report()

    def tell_cache(self, _: None) -> None:
        """A message of the fleet: it has missed some of what was said about the cache."""
        self.node.report(whole_cache=True)

    def hand_off(self, order: Handoff) -> None:
        """A message of the fleet: a sequence is to move. A second one of the same is not heard."""
        if order.request not in self.node.transfers:
            transfer = Transfer(self._world, self, order)
            self.node.transfers[order.request] = transfer
            transfer.begin()

    def _link(self, name: str) -> Link:
        world = self._world
        return Link(world.heap, world.settings, Random(f"{world.seed} link {name}"))

    def _start(self) -> Node:
        world = self._world
        return Node(
            self._instance(),
            world.heap,
            world.lengths,
            self._tell,
            world.gaps,
            single_steps=world.single_steps,
        )

    def _tell(self, frame: list[Event]) -> None:
        self.to_fleet.send(self._hear, frame)

    def _instance(self, incarnation: str = "") -> Instance:
        world = self._world
        policy: Batching = world.config.policy.build("batching", world.seed, self.name)
        if policy.oracle is not None:
            policy.oracle.lengths = world.lengths
        spec = simulated_spec(self.pool, self.name, policy.urgent_first, world.settings)
        if incarnation:
            spec = replace(spec, incarnation=incarnation)
        return Instance(spec, policy, latency.from_coefficients(spec.latency))


def simulated_spec(
    pool: PoolConfig, name: InstanceId, urgent_first: bool, settings: Settings
) -> InstanceSpec:
    """What an instance of the pool would say of itself."""
    if pool.hardware == "auto":
        raise ConfigError(
            f"pool {pool.name!r}: a simulation cannot measure hardware; name a latency profile"
        )
    profile = latency.load_profile(pool.hardware)
    return InstanceSpec(
        id=name,
        pool=pool.name,
        model=pool.model,
        n_blocks=pool.n_blocks or profile.n_blocks(pool.block_tokens),
        block_tokens=pool.block_tokens,
        max_sequences=pool.max_sequences,
        max_waiting=pool.max_waiting,
        max_context=pool.max_context or profile.max_context,
        role=Role(pool.role),
        address=name,
        urgent_first=urgent_first,
        kv_bytes_per_token=profile.kv_bytes_per_token,
        handoff_bytes_per_s=settings.handoff_bytes_per_s,
        latency=latency.with_effect(profile.coefficients, pool.effect, pool.effect_params),
        hardware=pool.hardware,
    )
