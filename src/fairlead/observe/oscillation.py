"""Moves that are taken back: a policy that cannot make up its mind.

An oscillation is a move to an instance that stands against a move away from it a short while ago.
There are two kinds. `request`: a request comes back to an instance that it left at most `window_s`
ago. `pair`: work goes from B to A where any other has gone from A to B at most `pair_window_s` ago.
A request that comes straight back is both.

A move is a request that has not begun and is sent to another instance, or a hand-off that is done;
one that follows from its prompt being computed is no decision, and does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fairlead.model import (
    Action,
    Complete,
    Dispatch,
    DispatchWhy,
    Event,
    HandedOff,
    Handoff,
    HandoffWhy,
    InstanceDown,
    InstanceId,
    Reject,
    RequestId,
)


class _Trail:
    """Where a request is, and what it left when."""

    __slots__ = ("counts", "instance", "left_s", "target")

    def __init__(self, instance: InstanceId) -> None:
        self.instance = instance
        self.left_s: dict[InstanceId, float] = {}
        self.target: InstanceId | None = None
        """Of the hand-off under way."""
        self.counts = False
        """Whether that hand-off is a move."""


class Oscillations:
    """An observer: show it every event with the actions that it brought."""

    def __init__(self, window_s: float = 30.0, pair_window_s: float = 5.0) -> None:
        """One answer takes some half a minute, and helps nobody by coming back. Between a pair the
        load may well turn, but not as fast as policies look at it: theirs is the second default."""
        self.window_s = window_s
        self.pair_window_s = pair_window_s
        self.moves = 0
        self.counts = {"request": 0, "pair": 0}
        self._trails: dict[RequestId, _Trail] = {}
        self._went_s: dict[tuple[InstanceId, InstanceId], float] = {}
        """When anything last went from one instance to another."""
        self._on_action: dict[type[Any], Callable[[Any, float], None]] = {
            Dispatch: self._dispatched,
            Handoff: self._ordered,
            Complete: self._ended,
            Reject: self._ended,
        }

    def observe(self, event: Event, actions: Sequence[Action], now: float) -> None:
        kind = type(event)
        if kind is HandedOff:
            self._handed_off(event, now)  # type: ignore[arg-type]
        elif kind is InstanceDown:
            self._instance_down(event)  # type: ignore[arg-type]
        for action in actions:
            seen = self._on_action.get(type(action))
            if seen is not None:
                seen(action, now)

    def _dispatched(self, action: Dispatch, now: float) -> None:
        trail = self._trails.get(action.request.id)
        if trail is None:
            self._trails[action.request.id] = _Trail(action.instance)
            return
        trail.target = None
        if action.why is DispatchWhy.MOVED:
            self._moved(trail, action.instance, now)
        trail.instance = action.instance

    def _ordered(self, action: Handoff, now: float) -> None:
        trail = self._trails.get(action.request)
        if trail is not None:
            trail.target = action.target
            trail.counts = action.why is not HandoffWhy.PREFILL_DONE

    def _handed_off(self, event: HandedOff, now: float) -> None:
        trail = self._trails.get(event.request)
        if trail is None or trail.target is None:
            return
        if event.done:
            if trail.counts:
                self._moved(trail, trail.target, now)
            trail.instance = trail.target
        trail.target = None

    def _ended(self, action: Complete | Reject, now: float) -> None:
        self._trails.pop(action.request, None)

    def _instance_down(self, event: InstanceDown) -> None:
        gone = event.instance
        for pair in [pair for pair in self._went_s if gone in pair]:
            del self._went_s[pair]

    def _moved(self, trail: _Trail, target: InstanceId, now: float) -> None:
        self.moves += 1
        here = trail.instance
        left_s = trail.left_s.get(target)
        came_s = self._went_s.get((target, here))
        self.counts["request"] += left_s is not None and now - left_s <= self.window_s
        self.counts["pair"] += came_s is not None and now - came_s <= self.pair_window_s
        trail.left_s[here] = self._went_s[here, target] = now
