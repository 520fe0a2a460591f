"""A machine to which things happen: it dies and comes back, is cut off, and joins again.

What gateway and worker do about it is what `gateway/hub.py` and `worker/worker.py` do: a worker
that has lost its gateway dials until it is welcomed, drops everything inside, and reports its whole
cache; a gateway gives up an instance whose connection ends, or that is silent for too long.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Protocol

from fairlead.fleet.pool_config import PoolConfig
from fairlead.model import Event, Handoff, InstanceDown, InstanceUp, Leaving
from fairlead.simulate.faults import Faults
from fairlead.simulate.faulty_link import HELD, FaultyLink
from fairlead.simulate.faulty_node import FaultyNode
from fairlead.simulate.heap import FAULT
from fairlead.simulate.machine import Machine, World

DIAL_S = 0.2
"""A worker without a gateway tries again so often; real ones begin with this."""
SILENT_REPORTS = 10
"""Reports that may be missed, as in the gateway's hub."""


class Gateway(Protocol):
    """What a machine dials."""

    @property
    def is_up(self) -> bool: ...
    def tell(self, event: Event) -> None:
        """An event for its fleet."""
        ...


class FaultyMachine(Machine):
    """See the module."""

    def __init__(
        self,
        world: World,
        pool: PoolConfig,
        i: int,
        gateway: Gateway,
        faults: Faults,
    ) -> None:
        self._gateway = gateway
        self._faults = faults
        self._incarnations = 0
        self._joined = True
        """Whether the gateway counts it among its instances."""
        self._heard_s = 0.0
        """When the gateway last heard of it."""
        self._dialling = False
        self._frozen = 0
        """Reasons why its process stands still."""
        self._leaves = False
        """It was told to stop."""
        self._factors: list[float] = []
        """By which its steps take longer."""
        self._born_s = 0.0
        self._past_up_s = self._past_busy_s = 0.0
        """Of earlier incarnations; so are the next."""
        self._past_preemptions = 0
        super().__init__(world, pool, i, self._heard)
        assert isinstance(self.to_fleet, FaultyLink)
        assert isinstance(self.to_instance, FaultyLink)
        self._uplink, self._downlink = self.to_fleet, self.to_instance
        self._known_as = self.spec.incarnation
        """The incarnation that joined last."""

    # ---------------------------------------------------------------- what it was and is

    @property
    def faulty_node(self) -> FaultyNode:
        """Its node, and what may befall it."""
        assert isinstance(self.node, FaultyNode)
        return self.node

    @property
    def alive(self) -> bool:
        return self.faulty_node.alive

    @property
    def busy_s(self) -> float:
        return self._past_busy_s + (self.node.instance.busy_s if self.alive else 0.0)

    @property
    def preemptions(self) -> int:
        return self._past_preemptions + (self.node.instance.preemptions if self.alive else 0)

    def up_s(self) -> float:
        return self._past_up_s + (self._world.heap.now - self._born_s if self.alive else 0.0)

    @property
    def hears_peers(self) -> bool:
        return self.alive and self.faulty_node.linked and not self._frozen

    def stop(self, _: None) -> None:
        if self.alive and not self.stopped and not self.node.instance.attempts:
            self.stopped = True
            self.die(silent=False, frames="kept", restart=False)

    def hand_off(self, order: Handoff) -> None:
        if self.alive and self.faulty_node.linked:
            self.faulty_node.keep_up()
            super().hand_off(order)

    def report(self) -> None:
        if self.alive and self.faulty_node.linked and not self._frozen:
            self.faulty_node.report()

    def tell_cache(self, _: None) -> None:
        if self.alive and self.faulty_node.linked:
            super().tell_cache(_)

    def _start(self) -> FaultyNode:
        world = self._world
        self._incarnations += 1
        self._born_s = world.heap.now
        return FaultyNode(
            self._instance(f"{self.name} {self._incarnations}"),
            world.heap,
            world.lengths,
            self._tell,
            world.gaps,
            single_steps=world.single_steps,
        )

    def _link(self, name: str) -> FaultyLink:
        world, direction = self._world, "to-fleet" if name.endswith("to fleet") else "to-instance"
        troubles = [
            (trouble, Random(f"{world.seed} messages {i} {name}"))
            for i, trouble in enumerate(self._faults.messages)
            if trouble.instance in ("", self.name) and trouble.direction in ("both", direction)
        ]
        return FaultyLink(world.heap, world.settings, Random(f"{world.seed} link {name}"), troubles)

    # ---------------------------------------------------------------- what befalls it

    def die(self, *, silent: bool, frames: str, restart: bool) -> None:
        if not self.alive:
            return
        self.faulty_node.speak()
        if frames == "lost":
            self._uplink.end()
        if not silent:
            self._uplink.send_surely(self._closed, "its connection ended")
        self._downlink.end()
        self._past_up_s, self._past_busy_s = self.up_s(), self.busy_s
        self._past_preemptions = self.preemptions
        self.faulty_node.die()
        if restart:
            self._later(self._world.settings.start_up_s, self._boot)

    def leave(self, grace_s: float, *, restart: bool) -> None:
        """It was told to stop, and tells the gateway until nothing is left inside."""
        if self.alive and not self._leaves:
            self._leaves = True
            self._leave_by((self.faulty_node, self._world.heap.now + grace_s, restart))

    def _leave_by(self, leaving: tuple[FaultyNode, float, bool]) -> None:
        node, latest_s, restart = leaving
        if node is not self.node or not self.alive:
            return  # It died of something else.
        if latest_s <= self._world.heap.now or not node.instance.attempts:
            self.die(silent=False, frames="arrive", restart=restart)
            return
        if node.linked and not self._frozen:
            node.speak()
            self._tell([Leaving(self.name)])
        heap, report_s = self._world.heap, self._world.settings.report_s
        heap.at(min(heap.now + report_s, latest_s), FAULT, self._leave_by, leaving)

    def stall(self, for_s: float, *, process: bool) -> None:
        if not self.alive:
            return
        self.faulty_node.speak()
        self.faulty_node.stall(for_s)
        if process:
            self._frozen += 1
            self.part(HELD)
            self._later(for_s, self._thaw)

    def slow_down(self, factor: float) -> None:
        """Steps take so many times as long, until `recover` is told the same. Of several such
        faults at once the worst counts."""
        self._factors.append(factor)
        self.faulty_node.slow_down(max(self._factors, default=1.0))

    def recover(self, factor: float) -> None:
        self._factors.remove(factor)
        self.faulty_node.slow_down(max(self._factors, default=1.0))

    def part(self, messages: str) -> None:
        """Nothing passes between it and the gateway, until `rejoin` is told the same."""
        self.faulty_node.speak()
        self._uplink.cut(messages)
        self._downlink.cut(messages)

    def rejoin(self, messages: str) -> None:
        self._uplink.mend(messages)
        self._downlink.mend(messages)
        if not (self._joined and self.faulty_node.linked):
            self._downlink.send_surely(self._hung_up, self.faulty_node)

    def _thaw(self, _: None) -> None:
        self._frozen -= 1
        self.rejoin(HELD)

    def _boot(self, _: None) -> None:
        self.node = self._start()
        self._leaves = False
        self.faulty_node.slow_down(max(self._factors, default=1.0))
        self._dial_first()

    def begin_outside(self) -> None:
        """No gateway knows of it yet."""
        self._joined = False
        self._dial_first()

    def _dial_first(self) -> None:
        self.faulty_node.linked = False
        self._dial(None)

    def _later(self, seconds: float, call: Callable[[None], None]) -> None:
        self._world.heap.at(self._world.heap.now + seconds, FAULT, call, None)

    # ---------------------------------------------------------------- the worker's end

    def _hung_up(self, node: FaultyNode) -> None:
        """There is no connection any more, and the worker hears of it."""
        if node is self.node and node.alive:
            if node.linked:
                node.lose_gateway()
            if not self._dialling:
                self._dialling = True
                self._later(DIAL_S, self._dial)

    def _dial(self, _: None) -> None:
        """Again and again, until it is welcomed."""
        self._dialling = self.alive and not self.faulty_node.linked
        if not self._dialling:
            return
        if self._gateway.is_up and not self._uplink.is_cut:
            self._dialling = False
            self._join()
        else:
            self._later(DIAL_S, self._dial)

    def _welcomed(self, node: FaultyNode) -> None:
        if node.alive:
            node.welcome()

    # ---------------------------------------------------------------- the gateway's end

    def _join(self) -> None:
        spec = self.spec
        if self._joined and spec.incarnation == self._known_as:
            self._give_up("the worker connected again")
        self._uplink.begin()
        self._downlink.begin()
        self._joined, self._known_as = True, spec.incarnation
        self._heard_s = self._world.heap.now
        self._downlink.send_surely(self._welcomed, self.faulty_node)
        self._gateway.tell(InstanceUp(spec))

    def _heard(self, frame: list[Event]) -> None:
        self._heard_s = self._world.heap.now
        for event in frame:
            self._gateway.tell(event)

    def _closed(self, why: str) -> None:
        if self._joined:
            self._give_up(why)

    def _give_up(self, why: str) -> None:
        """It is no instance any more; whatever still comes over this connection is not read."""
        self._joined = False
        self._uplink.end()
        self._downlink.end()
        self._gateway.tell(InstanceDown(self.name, why))

    def sweep(self) -> None:
        """Hangs up on it if it has been silent for too long."""
        silent_s = self._world.heap.now - self._heard_s
        if self._joined and silent_s > SILENT_REPORTS * self._world.settings.report_s:
            self._give_up(f"silent for {silent_s:.1f} s")
            self._downlink.send_surely(self._hung_up, self.faulty_node)

    def lose_gateway(self) -> None:
        """The gateway stops, and its connections with it."""
        self._joined = False
        self._uplink.end()
        self._downlink.end()
        self._downlink.send_surely(self._hung_up, self.faulty_node)
