"""A fleet file and a trace, in virtual time: the shipped Fleet and Instances under one heap."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fairlead.fleet.config import FleetConfig
from fairlead.fleet.pool_config import PoolConfig
from fairlead.model import (
    Action,
    Cancel,
    Complete,
    Deliver,
    Dispatch,
    Event,
    Handoff,
    InstanceId,
    InstanceUp,
    Reject,
    Scale,
    SetRole,
    Stop,
    TellCache,
    Tick,
)
from fairlead.observe.digest import Digest
from fairlead.simulate.clients import Clients
from fairlead.simulate.heap import REPORT, TICK, Heap
from fairlead.simulate.machine import Machine, World
from fairlead.simulate.settings import read_settings
from fairlead.simulate.timeline import Sampler, Timeline
from fairlead.workload.arrivals import Arrivals
from fairlead.workload.percentiles import Histogram
from fairlead.workload.summary import InstanceFigures
from fairlead.workload.trace import TraceRow

Observer = Callable[[Event, Sequence[Action], float], None]
"""Called after each event with what the fleet decided, and the virtual time."""


class Simulator:
    """One run. `records` grows while it runs."""

    idle_machines_rest = True
    """One that is empty, and has said so, reports again when it is sent something: in between its
    reports would all be the same. Where messages can be lost, they still tell that it lives."""

    def __init__(
        self,
        config: FleetConfig,
        seed: int = 0,
        *,
        observers: Sequence[Observer] = (),
        timeline_s: float | None = None,
        single_steps: bool = False,
        heap: Heap | None = None,
    ) -> None:
        """With `single_steps` every iteration is an event of its own: slow, and the reference."""
        self.heap = Heap() if heap is None else heap
        self.settings = read_settings(config)
        self.fleet = config.fleet(seed)
        self.clients = self._clients(config, seed)
        self.records = self.clients.records
        self.gaps = Histogram()
        self.timeline = Timeline()
        self.machines: dict[InstanceId, Machine] = {}
        self._observers = tuple(observers)
        self._digest = Digest()
        self._open = self.clients.open
        self._carry_out: dict[type[Any], Callable[[Any], None]] = {
            Deliver: self.clients.deliver,
            Dispatch: self._send,
            Cancel: self._send,
            Handoff: self._hand_off,
            Scale: self._scale,
            Stop: self._stop,
            SetRole: self._nothing,
            TellCache: self._ask_for_cache,
            Complete: self.clients.complete,
            Reject: self.clients.reject,
        }
        self._world = World(
            config,
            seed,
            self.heap,
            self.settings,
            self.clients.lengths,
            self.gaps,
            single_steps,
        )
        self._world.machines = self.machines
        self._world.wake = self._wake
        self._pools = {pool.name: pool for pool in config.pools}
        self._most = 0
        """Machines at one time, those that were starting among them."""
        self._starting_s = 0.0
        """What machines that a policy asked for took to start, and cost meanwhile."""
        self._n_begun = {pool.name: pool.instances for pool in config.pools}
        """Machines of each pool that were ever begun."""
        for pool in config.pools:
            for i in range(pool.instances):
                self._start(self._machine(pool, i))
        self._count_machines()
        self._tick_later()
        if timeline_s is not None:
            self._sampler = Sampler(self.timeline, timeline_s)
            self._sample(None)

    def facts(self) -> dict[str, Any]:
        """What the run knows beside its records, for its `RunFacts`."""
        machines = self.machines.values()
        up_s = sum(machine.up_s() for machine in machines)
        busy_s = sum(machine.busy_s for machine in machines)
        return {
            "preemptions": sum(machine.preemptions for machine in machines),
            "handoffs": self._world.pauses.n,
            "handoff_downtime_s": self._world.pauses.percentiles(),
            "instances": InstanceFigures(
                n_max=self._most,
                hours=(up_s + self._starting_s) / 3600,
                busy_fraction=busy_s / up_s if up_s else None,
            ),
            "digest": self._digest.hexdigest(),
        }

    def run(
        self,
        rows: Iterable[TraceRow] | Arrivals,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Plays the rows until the last of them has ended, and those that follow upon an end."""
        heap, clients = self.heap, self.clients
        clients.come(rows, progress)
        while clients.busy:
            heap.run_next()

    # ---------------------------------------------------------------- what there is

    def _clients(self, config: FleetConfig, seed: int) -> Clients:
        return Clients(config, seed, self.heap, self.settings, self.fleet, self._tell)

    def _machine(self, pool: PoolConfig, i: int) -> Machine:
        return Machine(self._world, pool, i, self._hear)

    def _start(self, machine: Machine) -> None:
        self.machines[machine.name] = machine
        self._tell(InstanceUp(machine.spec))
        self.heap.at(machine.first_report_s, REPORT, self._report, machine)

    # ---------------------------------------------------------------- time

    def _report(self, machine: Machine) -> None:
        if machine.stopped:
            return
        machine.report()
        if (
            self.idle_machines_rest
            and machine.idle
            and not self.fleet.instances[machine.name].attempts
        ):
            machine.resting = True
        else:
            self.heap.at(self.heap.now + self.settings.report_s, REPORT, self._report, machine)

    def _wake(self, machine: Machine) -> None:
        """It is about to have something to report, at the next of its usual moments."""
        machine.resting = False
        period_s = self.settings.report_s
        missed = (self.heap.now - machine.first_report_s) // period_s + 1
        at_s = machine.first_report_s + missed * period_s
        self.heap.at(at_s, REPORT, self._report, machine)

    def _tick(self, _: None) -> None:
        """Who decides knows how far everybody has come, as it does live: all tell it first."""
        for machine in self.machines.values():
            if machine.alive and not machine.resting:
                machine.node.speak()
        heard_s = self.heap.now + self.settings.delay_s + self.settings.jitter_s
        self.heap.at(heard_s, TICK, self._heard, None)
        self._tick_later()

    def _heard(self, _: None) -> None:
        self._tell(Tick())

    def _tick_later(self) -> None:
        self.heap.at(self.heap.now + self.settings.tick_s, TICK, self._tick, None)

    def _sample(self, _: None) -> None:
        now = self.heap.now
        alive = [machine.node for machine in self.machines.values() if machine.alive]
        for node in alive:
            node.keep_up()
        self._sampler.sample([node.instance for node in alive], now)
        self.heap.at(now + self._sampler.period_s, TICK, self._sample, None)

    # ---------------------------------------------------------------- the fleet

    def _hear(self, frame: list[Event]) -> None:
        for event in frame:
            self._tell(event)

    def _tell(self, event: Event) -> None:
        now = self.heap.now
        actions = self.fleet.handle(event, now)
        if actions:
            self._digest.add(actions, now)
        for observe in self._observers:
            observe(event, actions, now)
        for action in actions:
            self._carry_out[type(action)](action)

    def _hand_off(self, action: Handoff) -> None:
        machine = self.machines[action.instance]
        machine.to_instance.send(machine.hand_off, action)
        target = self.machines[action.target]
        if target.resting:
            self._wake(target)

    def _scale(self, action: Scale) -> None:
        pool = self._pools[action.pool]
        stopped = sum(m.stopped for m in self.machines.values() if m.pool is pool)
        missing = action.n - (self._n_begun[pool.name] - stopped)
        for _ in range(missing):
            i = self._n_begun[pool.name]
            self._n_begun[pool.name] += 1
            self.heap.at(self.heap.now + self.settings.start_up_s, TICK, self._boot, (pool, i))
        self._count_machines()

    def _count_machines(self) -> None:
        stopped = sum(machine.stopped for machine in self.machines.values())
        self._most = max(self._most, sum(self._n_begun.values()) - stopped)

    def _boot(self, born: tuple[PoolConfig, int]) -> None:
        self._starting_s += self.settings.start_up_s
        self._start(self._machine(*born))

    def _nothing(self, action: SetRole) -> None:
        """The fleet sees to it itself."""

    def _stop(self, action: Stop) -> None:
        machine = self.machines[action.instance]
        machine.to_instance.send(machine.stop, None)

    def _ask_for_cache(self, action: TellCache) -> None:
        machine = self.machines[action.instance]
        if machine.resting:
            self._wake(machine)
        machine.to_instance.send(machine.tell_cache, None)

    def _send(self, action: Dispatch | Cancel) -> None:
        machine = self.machines[action.instance]
        if machine.resting:
            self._wake(machine)
        machine.to_instance.send(machine.node.receive, action)
        if type(action) is Dispatch:
            life = self._open[action.request.id]
            life.attempts = action.attempt
            life.instance = action.instance
