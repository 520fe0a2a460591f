"""A fleet and its instances on strings: every message waits in a queue until the test lets it pass.

The pretended model says `token(id, position)`, so that a stream can be checked to the last token
whatever happened to it on the way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from random import Random
from typing import Any

from fairlead.fleet import Fleet, Limits
from fairlead.fleet.pools import PoolBounds
from fairlead.instance import Instance
from fairlead.latency import from_coefficients
from fairlead.model import (
    Action,
    Arrived,
    Cancel,
    Cancelled,
    Complete,
    Deliver,
    Dispatch,
    Event,
    InstanceDown,
    InstanceSpec,
    InstanceUp,
    Outcome,
    Refused,
    Reject,
    Reported,
    Request,
    RequestId,
    Step,
    StepResult,
    Tick,
)
from fairlead.observe.invariants import Checker
from fairlead.policies import registry
from fairlead.policies.rescheduling import ReschedulingPolicy
from fairlead.policies.roles import RolesPolicy
from fairlead.policies.scaling import ScalingPolicy


def token(id: str, position: int) -> int:
    return (sum(map(ord, id)) * 31 + position * 7919) % 1000


def fleet(
    routing: str = "round-robin",
    admission: str = "always",
    seed: int = 0,
    rescheduling: ReschedulingPolicy | None = None,
    roles: RolesPolicy | None = None,
    pools: Sequence[tuple[PoolBounds, ScalingPolicy | None]] = (),
    **limits: Any,
) -> Fleet:
    return Fleet(
        registry.build("routing", routing, {}, Random(f"routing {seed}")),
        registry.build("admission", admission, {}, Random(f"admission {seed}")),
        Limits(**limits),
        models=("m",),
        rescheduling=rescheduling,
        roles=roles,
        pools=pools,
    )


class World:
    def __init__(self, the_fleet: Fleet, batching: str = "fcfs") -> None:
        self.fleet = the_fleet
        self.batching = batching
        self.now = 0.0
        self.checker = Checker()
        self.instances: dict[str, Instance] = {}
        self.to_instance: dict[str, deque[Action]] = {}
        self.to_fleet: dict[str, deque[Event]] = {}
        self.running: dict[str, Step] = {}
        self.streams: dict[str, list[int]] = {}
        self.ended: dict[str, Complete | Reject] = {}
        self.log: list[tuple[float, Event, list[Action]]] = []

    # ------------------------------------------------------------ the fleet's side

    def tell(self, event: Event) -> list[Action]:
        actions = self.fleet.handle(event, self.now)
        self.checker.observe(event, actions, self.now)
        self.fleet.check_invariants()
        self.log.append((self.now, event, actions))
        for action in actions:
            match action:
                case Dispatch() | Cancel():
                    # A connection that is gone swallows what is sent to it.
                    if action.instance in self.to_instance:
                        self.to_instance[action.instance].append(action)
                case Deliver():
                    for row in action.rows:
                        self.streams.setdefault(row.request, []).extend(row.token_ids)
                case Complete() | Reject():
                    self.ended[action.request] = action
        return actions

    def arrive(self, request: Request) -> list[Action]:
        return self.tell(Arrived(request))

    def cancel(self, id: str) -> list[Action]:
        return self.tell(Cancelled(RequestId(id)))

    # ------------------------------------------------------------ instances come and go

    def up(self, spec: InstanceSpec) -> list[Action]:
        policy = registry.build("batching", self.batching, {}, Random(spec.id))
        self.instances[spec.id] = Instance(spec, policy, from_coefficients(spec.latency))
        self.to_instance[spec.id] = deque()
        self.to_fleet[spec.id] = deque()
        return self.tell(InstanceUp(spec))

    def kill(self, id: str) -> list[Action]:
        """What it had sent and nobody had read yet is lost with it."""
        del self.instances[id], self.to_instance[id], self.to_fleet[id]
        self.running.pop(id, None)
        return self.tell(InstanceDown(self.fleet.instances[id].id, "killed"))

    # ------------------------------------------------------------ one thing at a time

    def deliver_to_instance(self, id: str) -> bool:
        if not self.to_instance[id]:
            return False
        action, instance = self.to_instance[id].popleft(), self.instances[id]
        if isinstance(action, Cancel):
            instance.abort(action.request, self.now, action.attempt)
        elif isinstance(action, Dispatch):
            why = instance.submit(
                action.request, self.now, attempt=action.attempt, produced=action.produced
            )
            if why is not None:
                self.to_fleet[id].append(
                    Refused(instance.spec.id, action.request.id, action.attempt, why)
                )
        return True

    def deliver_to_fleet(self, id: str) -> bool:
        if not self.to_fleet[id]:
            return False
        self.tell(self.to_fleet[id].popleft())
        return True

    def begin_step(self, id: str) -> bool:
        if id in self.running:
            return False
        step = self.instances[id].plan(self.now)
        if step is not None:
            self.running[id] = step
        return step is not None

    def end_step(self, id: str) -> bool:
        step, instance = self.running.pop(id, None), self.instances[id]
        if step is None:
            return False
        tokens = {
            row.request: [token(row.request, instance.sequences[row.request].n_produced)]
            for row in step.rows
            if row.samples and row.request in instance.sequences
        }
        self.to_fleet[id].extend(instance.commit(step, StepResult(tokens), self.now))
        instance.planner.pool.check_invariants()
        return True

    def report(self, id: str) -> None:
        self.to_fleet[id].append(Reported(self.instances[id].report(self.now)))

    # ------------------------------------------------------------ everything

    def settle(self, rounds: int = 10_000) -> None:
        """Lets everything happen until nothing is left to happen."""
        for _ in range(rounds):
            self.now += 0.01
            moved = False
            for id in list(self.instances):
                while self.deliver_to_instance(id):
                    moved = True
                moved |= self.begin_step(id)
                moved |= self.end_step(id)
                while self.deliver_to_fleet(id):
                    moved = True
            if not moved:
                return
        raise AssertionError(f"not settled: {list(self.fleet.requests.values())}")

    def heal(self) -> None:
        """Time passes with everything working: what is lost is noticed, queues drain or give up."""
        for _ in range(200):
            self.settle()
            if not self.fleet.requests:
                return
            self.now += 1.0
            for id in list(self.instances):
                self.report(id)
            self.settle()
            self.tell(Tick())
        raise AssertionError(f"not healed: {list(self.fleet.requests.values())}")

    def check_streams(self, requests: list[Request]) -> None:
        """Each request ended once; whoever finished saw exactly its tokens."""
        by_id = {request.id: request for request in requests}
        assert set(self.ended) == set(by_id)
        for id, end in self.ended.items():
            seen = self.streams.get(id, [])
            assert seen == [token(id, i) for i in range(len(seen))], f"{id} saw wrong tokens"
            if isinstance(end, Complete) and end.outcome is Outcome.FINISHED:
                assert len(seen) == by_id[RequestId(id)].max_tokens
        for instance in self.instances.values():
            assert not instance.sequences, f"{instance.spec.id} still holds {instance.sequences}"
            assert instance.planner.pool.n_used == 0
