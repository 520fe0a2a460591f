"""The one place where facts enter the fleet and its decisions are carried out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast

from fairlead.fleet.filling import Filling
from fairlead.model import (
    Action,
    Arrived,
    Cancel,
    Complete,
    Deliver,
    Dispatch,
    Event,
    Handoff,
    InstanceId,
    InstanceSpec,
    Reject,
    Request,
    RequestId,
    Scale,
    SetRole,
    Stop,
    TellCache,
)
from fairlead.observe.window.seen import SeenInstance, SeenRequest
from fairlead.worker import wire
from fairlead.worker.provisioner import Nobody, Provisioner


class Core(Protocol):
    """What is driven: `fairlead.fleet.Fleet`."""

    @property
    def requests(self) -> Mapping[RequestId, SeenRequest]: ...
    @property
    def instances(self) -> Mapping[InstanceId, SeenInstance]: ...
    @property
    def n_queued(self) -> int: ...
    def handle(self, event: Event, now: float) -> Sequence[Action]: ...
    def spare(self, model: str, filling: Filling) -> int: ...


class Outlet(Protocol):
    """Where the output of one request goes."""

    def push(self, row: wire.Row) -> None: ...
    def complete(self, action: Complete) -> None: ...
    def reject(self, action: Reject) -> None: ...


class Link(Protocol):
    """The way to one instance."""

    @property
    def address(self) -> str: ...
    @property
    def spec(self) -> InstanceSpec | None: ...
    def send(self, message: wire.Message) -> None: ...


Observer = Callable[[Event, Sequence[Action], float], None]


class Driver:
    """Hands events to the fleet one at a time, and carries out what it answers."""

    def __init__(self, fleet: Core, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        """The gateway's clock, in seconds; it never runs back."""
        self.observers: list[Observer] = []
        self.links: dict[InstanceId, Link] = {}
        self.outlets: dict[RequestId, Outlet] = {}
        """Of requests under way; one that its client has left has none."""
        self.provisioner: Provisioner = Nobody()
        """Sees to it that a pool has so many workers."""
        self._fleet = fleet
        self._waiting: deque[Event] = deque()
        self._busy = False
        self._carry_out: dict[type[Action], Callable[..., None]] = {
            Dispatch: self._dispatch,
            Deliver: self._deliver,
            Complete: self._complete,
            Reject: self._reject,
            Cancel: self._cancel,
            Handoff: self._hand_off,
            Scale: self._scale,
            Stop: self._stop,
            SetRole: self._nothing,
            TellCache: self._ask_for_cache,
        }

    def open(self, request: Request, outlet: Outlet) -> None:
        """A request enters; its output, or its rejection, goes to `outlet`."""
        self.outlets[request.id] = outlet
        self.handle(Arrived(request))

    def handle(self, event: Event) -> None:
        """Events that arise while an earlier one is carried out wait until that is done."""
        if self._busy:
            self._waiting.append(event)
            return
        self._busy = True
        try:
            self._handle_one(event)
            while self._waiting:
                self._handle_one(self._waiting.popleft())
        finally:
            self._busy = False

    def _handle_one(self, event: Event) -> None:
        now = self.clock()
        actions = self._fleet.handle(event, now)
        for action in actions:
            self._carry_out[type(action)](action)
        for observe in self.observers:
            observe(event, actions, now)

    def _dispatch(self, action: Dispatch) -> None:
        # An instance without a link has just gone: its InstanceDown is waiting to be handled.
        if link := self.links.get(action.instance):
            link.send(wire.Submit(action.request, action.attempt, list(action.produced)))

    def _cancel(self, action: Cancel) -> None:
        if link := self.links.get(action.instance):
            link.send(wire.Abort(action.request, action.attempt))

    def _hand_off(self, action: Handoff) -> None:
        source, target = self.links.get(action.instance), self.links.get(action.target)
        if source is not None and target is not None:
            ids = (action.request, action.attempt, action.to_attempt)
            certificate = "" if target.spec is None else target.spec.certificate
            source.send(wire.Move(*ids, target.address, certificate))

    def _scale(self, action: Scale) -> None:
        self.provisioner.scale(action.pool, action.n)

    def _nothing(self, action: SetRole) -> None:
        """The fleet sees to it itself."""

    def _stop(self, action: Stop) -> None:
        if link := self.links.get(action.instance):
            link.send(wire.Drain())
            if link.spec is not None:
                self.provisioner.ending(link.spec)

    def _ask_for_cache(self, action: TellCache) -> None:
        if link := self.links.get(action.instance):
            link.send(wire.Ping(self.clock(), whole_cache=True))

    def _deliver(self, action: Deliver) -> None:
        outlets = self.outlets
        for row in cast(Sequence[wire.Row], action.rows):
            outlet = outlets.get(row.request)
            if outlet is not None:
                outlet.push(row)

    def _complete(self, action: Complete) -> None:
        if outlet := self.outlets.pop(action.request, None):
            outlet.complete(action)

    def _reject(self, action: Reject) -> None:
        if outlet := self.outlets.pop(action.request, None):
            outlet.reject(action)
