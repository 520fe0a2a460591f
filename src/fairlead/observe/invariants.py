"""One checker for each numbered invariant of `docs/invariants.md` that shows in events and actions.

Others are checked from within: `BlockPool.check_invariants` (3), `Fleet.check_invariants` (1, 4),
the tidy test (8), the digest (9).
"""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.model import (
    Action,
    Arrived,
    Cancel,
    Complete,
    Deliver,
    Dispatch,
    Event,
    Finished,
    HandedOff,
    Handoff,
    InstanceDown,
    InstanceId,
    InstanceUp,
    Outcome,
    Refused,
    Reject,
    Report,
    Reported,
    RequestId,
    Tokens,
)

REMEMBERED = 100_000
"""Ended requests whose return would be noticed: bounds the memory of a checker in production."""


class Checker:
    """Watches a fleet from outside; raises `AssertionError` at the first violation.

    Used by tests, by the simulator, and in production behind a debug switch.
    """

    def __init__(self) -> None:
        self._open: dict[RequestId, int] = {}
        """Requests under way, with the next output position their client is to see."""
        self._ended: dict[RequestId, None] = {}
        self._attempts: dict[RequestId, int] = {}
        self._owners: dict[RequestId, InstanceId] = {}
        """Where the latest attempt of each is."""
        self._issued: dict[RequestId, int] = {}
        """The latest attempt of each, one that is only on its way included."""
        self._moves: dict[RequestId, tuple[InstanceId, int]] = {}
        """Where each that is handed off goes, and as which attempt."""
        self._missed: dict[RequestId, None] = {}
        """Those that a report of their owner did not show."""
        self._up: dict[InstanceId, str] = {}
        """Instances, with their incarnation."""
        self._as_of_s: dict[InstanceId, float] = {}
        """Of which time the last report of each was."""
        self._now = float("-inf")

    @property
    def open(self) -> int:
        """Requests that arrived and have not ended."""
        return len(self._open)

    def observe(self, event: Event, actions: Sequence[Action], now: float) -> None:
        assert now >= self._now, f"6: time ran back from {self._now} to {now}"
        self._now = now
        if isinstance(event, Arrived):
            self._open.setdefault(event.request.id, 0)
        self._let_go(event)
        if isinstance(event, Reported):
            self._reported(event.report, actions)
        for action in actions:
            if isinstance(action, Deliver):
                self._delivered(event, action)
            elif isinstance(action, Complete | Reject):
                self._end(event, action)
            elif isinstance(action, Dispatch):
                self._dispatched(action)
            elif isinstance(action, Handoff):
                self._moves_on(action)
            elif isinstance(action, Cancel):
                if self._moves.get(action.request) == (action.instance, action.attempt):
                    del self._moves[action.request]
                self._release(action.instance, action.request, action.attempt)

    def _delivered(self, event: Event, action: Deliver) -> None:
        source = event.instance if isinstance(event, Tokens) else None
        taken_over: set[RequestId] = set()
        for row in action.rows:
            id = row.request
            assert id in self._open, f"2: {id} got tokens after it ended"
            due = self._open[id]
            assert row.start == due, f"5: {id} got position {row.start}, not {due}"
            move = self._moves.get(id)
            if move is not None and move[1] == row.attempt:
                # The target has taken over; its tokens may have had to wait for the source's.
                self._owners[id], self._attempts[id] = self._moves.pop(id)
                taken_over.add(id)
            waited = id in taken_over or isinstance(event, HandedOff)
            owner = source if waited else self._owners.get(id)
            assert (source, row.attempt) == (owner, self._attempts[id]), (
                f"4: {id} got tokens of attempt {row.attempt} on {source}, which is void"
            )
            self._open[id] = due + len(row.token_ids)

    def _end(self, event: Event, action: Complete | Reject) -> None:
        id = action.request
        assert id not in self._ended, f"2: {id} ended twice"
        assert id in self._open, f"1: {id} ended, and never arrived"
        seen = self._open.pop(id)
        if isinstance(action, Reject):
            assert seen == 0, f"2: {id} was rejected after {seen} tokens"
        elif isinstance(event, Finished) and action.outcome is Outcome.FINISHED:
            made = seen if event.n_produced is None else event.n_produced
            assert seen == made, f"5: {id} finished with {seen} of {made} tokens"
        for known in (self._attempts, self._issued, self._owners, self._moves, self._missed):
            known.pop(id, None)
        self._ended[id] = None
        if len(self._ended) > REMEMBERED:
            del self._ended[next(iter(self._ended))]

    def _dispatched(self, action: Dispatch) -> None:
        id = action.request.id
        assert id in self._open, f"1: {id} was dispatched and is not under way"
        assert action.instance in self._up, f"4: {id} was sent to {action.instance}, which is down"
        last = self._issued.get(id, 0)
        assert action.attempt == last + 1, f"4: attempt {action.attempt} of {id} follows {last}"
        owner = self._owners.get(id)
        assert owner is None or id in self._missed, (
            f"4: {id} was sent to {action.instance} while {owner} had it"
        )
        self._missed.pop(id, None)
        self._attempts[id], self._owners[id] = action.attempt, action.instance
        self._issued[id] = action.attempt
        assert len(action.produced) == self._open[id], f"5: {id} resumes at the wrong position"

    def _moves_on(self, action: Handoff) -> None:
        id = action.request
        assert id not in self._moves, f"4: {id} is handed off twice at once"
        assert action.target in self._up, f"4: {id} is handed off to {action.target}, which is down"
        at = (self._owners.get(id), self._attempts.get(id))
        assert at == (action.instance, action.attempt), f"4: {id} is at {at}, not as in {action}"
        assert action.to_attempt == self._issued[id] + 1, f"4: {action} takes a used attempt"
        self._issued[id] = action.to_attempt
        self._moves[id] = (action.target, action.to_attempt)

    def _let_go(self, event: Event) -> None:
        """Some events say that an instance does not have a request any more."""
        if isinstance(event, HandedOff):
            self._handed_off(event)
        elif isinstance(event, Refused | Finished):
            self._release(event.instance, event.request, event.attempt)
        elif isinstance(event, InstanceDown):
            self._gone(event.instance)
        elif isinstance(event, InstanceUp):
            spec = event.spec
            if self._up.get(spec.id) != spec.incarnation:
                self._gone(spec.id)
                self._up[spec.id] = spec.incarnation

    def _handed_off(self, event: HandedOff) -> None:
        id = event.request
        at = (self._owners.get(id), self._attempts.get(id))
        if event.done and id in self._moves and at == (event.instance, event.attempt):
            self._owners[id], self._attempts[id] = self._moves.pop(id)

    def _reported(self, report: Report, actions: Sequence[Action]) -> None:
        """What it does not show may be sent again; what is void there has to be stopped."""
        here, inside = report.instance, dict(report.requests)
        for id, owner in self._owners.items():
            if owner == here and inside.get(id) != self._attempts[id]:
                self._missed[id] = None
        if here not in self._up or report.as_of_s < self._as_of_s.get(here, report.as_of_s):
            return  # Overtaken by a newer one: nobody has to act upon it.
        self._as_of_s[here] = report.as_of_s
        stopped = [(a.request, a.attempt) for a in actions if isinstance(a, Cancel)]
        for id, attempt in report.requests:
            valid = self._owners.get(id) == here and self._attempts[id] == attempt
            valid = valid or self._moves.get(id) == (here, attempt)
            assert valid or (id, attempt) in stopped, (
                f"4: {here} works on attempt {attempt} of {id}, which is void, and is not stopped"
            )

    def _gone(self, instance: InstanceId) -> None:
        self._up.pop(instance, None)
        self._as_of_s.pop(instance, None)
        for id in [id for id, owner in self._owners.items() if owner == instance]:
            del self._owners[id]
            self._moves.pop(id, None)
        for id in [id for id, (target, _) in self._moves.items() if target == instance]:
            del self._moves[id]

    def _release(self, instance: InstanceId, id: RequestId, attempt: int) -> None:
        if self._owners.get(id) == instance and self._attempts[id] == attempt:
            del self._owners[id]
