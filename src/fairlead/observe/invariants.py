"""One checker for each numbered invariant of `docs/invariants.md` that shows in events and actions.

Others are checked from within: `BlockPool.check_invariants` (3), `Fleet.check_invariants` (1, 4),
the tidy test (8), the digest (9).
"""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.model import (
    Action,
    Arrived,
    Complete,
    Deliver,
    Dispatch,
    Event,
    InstanceDown,
    InstanceUp,
    Reject,
    RequestId,
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
        self._up: dict[str, None] = {}
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
        elif isinstance(event, InstanceUp):
            self._up[event.spec.id] = None
        elif isinstance(event, InstanceDown):
            self._up.pop(event.instance, None)
        for action in actions:
            if isinstance(action, Deliver):
                self._delivered(action)
            elif isinstance(action, Complete | Reject):
                self._end(action)
            elif isinstance(action, Dispatch):
                self._dispatched(action)

    def _delivered(self, action: Deliver) -> None:
        for row in action.rows:
            assert row.request in self._open, f"2: {row.request} got tokens after it ended"
            due = self._open[row.request]
            assert row.start == due, f"5: {row.request} got position {row.start}, not {due}"
            self._open[row.request] = due + len(row.token_ids)

    def _end(self, action: Complete | Reject) -> None:
        assert action.request not in self._ended, f"2: {action.request} ended twice"
        assert action.request in self._open, f"1: {action.request} ended, and never arrived"
        seen = self._open.pop(action.request)
        if isinstance(action, Reject):
            assert seen == 0, f"2: {action.request} was rejected after {seen} tokens"
        self._attempts.pop(action.request, None)
        self._ended[action.request] = None
        if len(self._ended) > REMEMBERED:
            del self._ended[next(iter(self._ended))]

    def _dispatched(self, action: Dispatch) -> None:
        id = action.request.id
        assert id in self._open, f"1: {id} was dispatched and is not under way"
        assert action.instance in self._up, f"4: {id} was sent to {action.instance}, which is down"
        last = self._attempts.get(id, 0)
        assert action.attempt == last + 1, f"4: attempt {action.attempt} of {id} follows {last}"
        self._attempts[id] = action.attempt
        assert len(action.produced) == self._open[id], f"5: {id} resumes at the wrong position"
