"""A simulation in which things go wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fairlead.fleet.config import FleetConfig
from fairlead.fleet.pool_config import PoolConfig
from fairlead.model import Arrived, Cancelled, Event, InstanceId, RequestId
from fairlead.simulate.faults import (
    Death,
    Faults,
    GatewayRestart,
    Leave,
    Partition,
    Slow,
    Stall,
    Timed,
)
from fairlead.simulate.faulty_clients import FaultyClients
from fairlead.simulate.faulty_machine import FaultyMachine
from fairlead.simulate.heap import FAULT, REPORT, Heap
from fairlead.simulate.schedule import moments, victims
from fairlead.simulate.simulator import Observer, Simulator


class FaultySimulator(Simulator):
    """The same simulator, and what befalls its world."""

    idle_machines_rest = False
    machines: dict[InstanceId, FaultyMachine]  # type: ignore[assignment]

    def __init__(
        self,
        config: FleetConfig,
        seed: int,
        faults: Faults,
        *,
        on_restart: Sequence[Callable[[], None]] = (),
        observers: Sequence[Observer] = (),
        timeline_s: float | None = None,
        single_steps: bool = False,
        heap: Heap | None = None,
    ) -> None:
        """`on_restart` are called when a new gateway, which knows nothing, has taken over."""
        self._config = config
        self._seed = seed
        self._faults = faults
        self._on_restart = on_restart
        self._stops = 0
        """Reasons why there is no gateway now."""
        super().__init__(
            config,
            seed,
            observers=observers,
            timeline_s=timeline_s,
            single_steps=single_steps,
            heap=heap,
        )
        assert isinstance(self.clients, FaultyClients)
        self._faulty_clients = self.clients
        faults.check_names(self.machines)
        self._schedule()
        self.heap.at(self.settings.report_s, FAULT, self._sweep, None)

    @property
    def is_up(self) -> bool:
        """Whether there is a gateway."""
        return not self._stops

    def tell(self, event: Event) -> None:
        """What a machine's connection brings to the gateway."""
        self._tell(event)

    def _clients(self, config: FleetConfig, seed: int) -> FaultyClients:
        return FaultyClients(
            self._faults, config, seed, self.heap, self.settings, self.fleet, self._arrived
        )

    def _machine(self, pool: PoolConfig, i: int) -> FaultyMachine:
        return FaultyMachine(self._world, pool, i, self, self._faults)

    def _boot(self, born: tuple[PoolConfig, int]) -> None:
        """It dials, and joins where it finds a gateway."""
        machine = self._machine(*born)
        self.machines[machine.name] = machine
        machine.begin_outside()
        self.heap.at(machine.first_report_s, REPORT, self._report, machine)

    def _sweep(self, _: None) -> None:
        """The gateway looks for instances that are silent."""
        if self.is_up:
            for machine in self.machines.values():
                machine.sweep()
        self.heap.at(self.heap.now + self.settings.report_s, FAULT, self._sweep, None)

    def _tick(self, _: None) -> None:
        if self.is_up:
            super()._tick(_)
        else:
            self._tick_later()

    def _heard(self, _: None) -> None:
        if self.is_up:
            super()._heard(_)

    # ---------------------------------------------------------------- what happens when

    def _schedule(self) -> None:
        faults, names = self._faults, list(self.machines)
        for kind in ("death", "leave", "stall", "slow", "partition"):
            for i, fault in enumerate(getattr(faults, kind)):
                stream = f"{self._seed} {kind} {i}"
                for name in victims(fault, stream, names):
                    times = moments(fault, f"{stream} {name}")
                    self._next((fault, self.machines[InstanceId(name)], times))
        for i, restart in enumerate(faults.gateway_restart):
            self._next((restart, None, moments(restart, f"{self._seed} gateway_restart {i}")))

    def _next(self, coming: tuple[Timed, FaultyMachine | None, Iterator[float]]) -> None:
        time_s = next(coming[2], None)
        if time_s is not None:
            self.heap.at(time_s, FAULT, self._befall, coming)

    def _befall(self, coming: tuple[Timed, FaultyMachine | None, Iterator[float]]) -> None:
        fault, machine, _ = coming
        self._next(coming)
        if isinstance(fault, GatewayRestart):
            self._stop_gateway()
            self._later(fault.for_s, self._start_gateway, None)
            return
        assert machine is not None
        match fault:
            case Death():
                machine.die(silent=fault.silent, frames=fault.frames, restart=fault.restart)
            case Leave():
                machine.leave(fault.grace_s, restart=fault.restart)
            case Stall():
                machine.stall(fault.for_s, process=fault.process)
            case Slow():
                machine.slow_down(fault.factor)
                self._later(fault.for_s, machine.recover, fault.factor)
            case Partition():
                machine.part(fault.messages)
                self._later(fault.for_s, machine.rejoin, fault.messages)

    def _later(self, seconds: float, call: Callable[[Any], None], argument: Any) -> None:
        self.heap.at(self.heap.now + seconds, FAULT, call, argument)

    # ---------------------------------------------------------------- the gateway

    def _stop_gateway(self) -> None:
        """All streams fail, and all connections end."""
        self._stops += 1
        for machine in self.machines.values():
            machine.faulty_node.speak()
            machine.lose_gateway()
        for id in list(self._open):
            self.clients.fail(id, "gateway-stopped")

    def _start_gateway(self, _: None) -> None:
        self._stops -= 1
        if self.is_up:
            self.fleet = self.clients.fleet = self._config.fleet(self._seed)
            for call in self._on_restart:
                call()

    # ---------------------------------------------------------------- clients

    def _arrived(self, event: Event) -> None:
        assert isinstance(event, Arrived)
        id = event.request.id
        if id not in self._open:
            return  # The gateway stopped while it was reading the request.
        if not self.is_up:
            self.clients.fail(id, "no-gateway")
            return
        self._tell(event)
        patience_s = self._faulty_clients.patience_s(id) if id in self._open else None
        if patience_s is not None:
            self._later(max(patience_s - self.settings.delay_s, 0.0), self._about_to_leave, id)

    def _about_to_leave(self, id: RequestId) -> None:
        """What was made by now is seen before its client leaves."""
        tracked = self.fleet.requests.get(id)
        if tracked is not None and tracked.instance is not None:
            self.machines[tracked.instance].faulty_node.speak()
        self._later(self.settings.delay_s, self._leave, id)

    def _leave(self, id: RequestId) -> None:
        if id in self._open:
            self._tell(Cancelled(id))
