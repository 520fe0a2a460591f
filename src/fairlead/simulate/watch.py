"""Watches a whole simulation, and not only its fleet: every numbered invariant that shows there.

Numbers are those of `docs/invariants.md`.
"""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.model import (
    Action,
    Complete,
    CompleteWhy,
    Deliver,
    Dispatch,
    Event,
    Outcome,
    Refused,
    RefuseWhy,
    Reject,
    RejectWhy,
    Reported,
    RequestId,
    Tick,
)
from fairlead.observe.invariants import Checker
from fairlead.simulate.simulator import Simulator

NOWHERE = (RejectWhy.TOO_LONG, CompleteWhy.NOWHERE_FITS)


class Watch:
    """An observer; raises `AssertionError` at the first violation."""

    def __init__(self, every: int = 1) -> None:
        """What is dear to check is checked at one event of so many."""
        self.simulator: Simulator | None = None
        """To be set once there is one."""
        self._checker = Checker()
        self._every = every
        self._events = 0
        self._refused = False
        """An instance was full where the fleet believed in room: until the next report nothing is
        sent there."""

    def restarted(self) -> None:
        """A new gateway knows nothing of what the old one did."""
        self._checker = Checker()

    def observe(self, event: Event, actions: Sequence[Action], now: float) -> None:
        self._checker.observe(event, actions, now)
        simulator = self.simulator
        if simulator is None:
            return
        for action in actions:
            if isinstance(action, Deliver):
                _check_values(action)
            elif isinstance(action, Dispatch):
                _check_resumed(action)
            elif isinstance(action, Complete) and action.outcome is Outcome.FINISHED:
                _check_length(simulator, action.request, actions)
            elif isinstance(action, Complete | Reject) and action.why in NOWHERE:
                _check_fits_nowhere(simulator, action.request)
        if isinstance(event, Refused) and event.why is RefuseWhy.QUEUE_FULL:
            self._refused = True
        elif isinstance(event, Tick) or _is_news(simulator, event):
            self._refused = False
        self._events += 1
        if self._events % self._every == 0:
            self._look_around(simulator)

    def _look_around(self, simulator: Simulator) -> None:
        fleet = simulator.fleet
        fleet.check_invariants()
        for machine in simulator.machines.values():
            assert not machine.node.idles, f"7: {machine.name} has work, and does nothing"
        # One instance at a time: looking at every block is the dearest of all.
        machine = list(simulator.machines.values())[self._events % len(simulator.machines)]
        if machine.alive:
            machine.node.instance.check_invariants()
        if fleet.n_queued and not self._refused:
            waiting = [t for t in fleet.requests.values() if t.instance is None]
            for shadow in [shadow for shadow in fleet.instances.values() if shadow.has_room]:
                for tracked in waiting:
                    assert not fleet.may_begin(tracked, shadow), (
                        f"7: {shadow.id} has room, and {tracked.request.id} waits for one"
                    )

    def check_rest(self) -> None:
        """Everybody has gone home: nothing is inside anything, and no block is missing."""
        simulator = self.simulator
        assert simulator is not None
        fleet = simulator.fleet
        assert not fleet.requests, f"1: still under way: {list(fleet.requests.values())}"
        assert not fleet.n_queued, "1: the fleet's queue is not empty"
        fleet.check_invariants()
        for machine in simulator.machines.values():
            if machine.stopped:
                continue  # The fleet knows, or is about to hear of it.
            joined = machine.name in fleet.instances
            assert joined == machine.alive, f"10: {machine.name} lives and has not joined again"
            if not machine.alive:
                continue
            instance = machine.node.instance
            assert not instance.sequences, f"10: {machine.name} still holds {instance.sequences}"
            instance.check_invariants()
            pool = instance.planner.pool
            assert pool.n_used == 0, f"3: {machine.name} still uses {pool.n_used} blocks"
            shadow = fleet.instances[machine.name]
            ledger = shadow.attempts
            assert not ledger, f"4: the fleet believes {ledger} on {machine.name}"
            assert set(shadow.prefixes.names) == set(pool.names()), (
                f"11: the fleet believes another cache on {machine.name} than there is"
            )


def _is_news(simulator: Simulator, event: Event) -> bool:
    """Whether it is a report, and none that a newer one has overtaken."""
    if not isinstance(event, Reported):
        return False
    shadow = simulator.fleet.instances.get(event.report.instance)
    return shadow is not None and shadow.report is event.report


def _check_values(action: Deliver) -> None:
    """A simulated token says its position."""
    for row in action.rows:
        due = range(row.start, row.start + len(row.token_ids))
        assert row.token_ids == due, f"5: {row.request} got {row.token_ids} for {due}"


def _check_resumed(action: Dispatch) -> None:
    n = len(action.produced)
    assert action.produced == tuple(range(n)), f"5: {action.request.id} goes on after other tokens"


def _check_fits_nowhere(simulator: Simulator, id: RequestId) -> None:
    request = simulator.clients.open[id].request
    most = request.prompt_tokens + request.max_tokens - 1
    for shadow in simulator.fleet.instances.values():
        spec = shadow.spec
        fits = most < spec.max_context and most <= spec.n_blocks * spec.block_tokens
        assert spec.model != request.model or not fits, f"7: {id} would fit into {spec.id}"


def _check_length(simulator: Simulator, id: RequestId, actions: Sequence[Action]) -> None:
    life = simulator.clients.open[id]
    # What is delivered together with the last word is not counted yet.
    rows = [row for a in actions if isinstance(a, Deliver) for row in a.rows if row.request == id]
    n_tokens = life.output_tokens + sum(len(row.token_ids) for row in rows)
    true = min(life.row.output_tokens, life.request.max_tokens)
    assert n_tokens == true, f"5: {id} ended with {n_tokens} tokens of {true}"
