"""The event log: what reached the fleet and what it decided, a line of JSON each.

An observer like the metrics and the checkers, so that a gateway and a simulation write the same
log. What comes with every step is left out (tokens on their way, ticks) or thinned (reports);
what a story needs is kept.

Each line holds `t`, the driver's clock in seconds; `what`; and by its kind `request`, `instance`
and further facts. The first line is `{"what": "log", …}`. It holds lengths, times, decisions and
numbers that say which prompts begin alike, and no text; so it can be told and played again, and
shown to others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from fairlead.model import (
    Action,
    Arrived,
    Cancel,
    Cancelled,
    Complete,
    Deliver,
    Dispatch,
    Draining,
    Event,
    HandedOff,
    Handoff,
    InstanceDown,
    InstanceId,
    InstanceUp,
    Leaving,
    Objective,
    Outcome,
    Preempted,
    Refused,
    Reject,
    Reported,
    Request,
    RequestId,
    Scale,
    SetRole,
    Stop,
    TellCache,
    Tokens,
)
from fairlead.observe.log_blocks import PrefixNumbers, blocks_per_piece

REPORT_EVERY_S = 10.0
"""Reports come twice a second from every instance; for a story one of twenty will do."""
REPORT_EVERY_SHARE = 0.002
"""Of the log's own length, where that is longer: days of reports stay a few thousand lines."""


class _UnderWay:
    """What is remembered of a request until it ends."""

    __slots__ = ("attempt", "first_s", "instance", "last_s", "n_tokens", "shown", "target")

    def __init__(self) -> None:
        self.attempt = 0
        self.instance = ""
        self.target = ""
        """Where a hand-off takes it."""
        self.n_tokens = 0
        self.first_s: float | None = None
        self.last_s: float | None = None
        self.shown = 0
        """The attempt whose first tokens have been written down."""


class Sink(Protocol):
    """Where lines go: a `LogFile`, or whoever keeps some of them."""

    def write(self, line: Mapping[str, Any]) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


class EventLog:
    """An observer: show it every event with the actions that it brought."""

    def __init__(self, file: Sink, pseudonym: Callable[[str], str] = str) -> None:
        """`pseudonym` is what a program is called in the log, whose own name its client chose."""
        self._file = file
        self._pseudonym = pseudonym
        self._prefixes = PrefixNumbers()
        self._block_tokens: dict[str, int] = {}
        """By model, as its instances say."""
        self._under_way: dict[RequestId, _UnderWay] = {}
        self._reported_s: dict[InstanceId, float] = {}
        self._begun_s = math.inf
        self._on: Mapping[type[Any], Callable[[Any, float], None]] = {
            Arrived: self._arrived,
            Cancelled: self._cancelled,
            Refused: self._refused,
            HandedOff: self._handed_off,
            Handoff: self._handoff,
            Preempted: self._preempted,
            Reported: self._reported,
            InstanceUp: self._instance_up,
            InstanceDown: self._instance_down,
            Leaving: self._leaving,
            Draining: self._draining,
            Dispatch: self._dispatched,
            Deliver: self._delivered,
            Complete: self._completed,
            Reject: self._rejected,
            Scale: self._scale,
            SetRole: self._set_role,
            Stop: self._stop,
            TellCache: self._tell_cache,
            Cancel: self._cancel,
        }

    def observe(self, event: Event, actions: Sequence[Action], now: float) -> None:
        if now < self._begun_s:
            self._begun_s = now
        if type(event) is not Tokens and (write := self._on.get(type(event))):
            write(event, now)
        for action in actions:
            if write := self._on.get(type(action)):
                write(action, now)

    def flush(self) -> None:
        """Whoever reads the log now finds all that has happened."""
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _write(self, now: float, what: str, **facts: Any) -> None:
        self._file.write({"t": now, "what": what, **facts})

    # ---------------------------------------------------------------- events

    def _arrived(self, event: Arrived, now: float) -> None:
        request = event.request
        if request.id in self._under_way:
            return
        self._under_way[request.id] = _UnderWay()
        self._write(
            now,
            "arrived",
            request=request.id,
            arrival_s=request.arrival_s,
            prompt_tokens=request.prompt_tokens,
            max_tokens=request.max_tokens,
            objective=objective_facts(request.objective),
            **_given(
                model=request.model,
                tenant=request.tenant,
                shares_prefixes=bool(request.tenant) and not request.cache_salt,
                program=request.program and self._pseudonym(request.program),
                priority=request.priority,
            ),
            **self._blocks(request),
        )

    def _blocks(self, request: Request) -> dict[str, Any]:
        """Which prompts begin like this one, for whoever plays the log again."""
        size = self._block_tokens.get(request.model)
        if size is None or not request.block_hashes:
            return {}
        runs = self._prefixes.runs(request.block_hashes, size)
        return _given(blocks=runs, piece_tokens=runs and size * blocks_per_piece(size))

    def _cancelled(self, event: Cancelled, now: float) -> None:
        self._write(now, "cancelled", request=event.request, why=event.why.value)

    def _refused(self, event: Refused, now: float) -> None:
        self._write(
            now,
            "refused",
            request=event.request,
            instance=event.instance,
            attempt=event.attempt,
            why=event.why.value,
        )

    def _preempted(self, event: Preempted, now: float) -> None:
        self._write(
            now,
            "preempted",
            request=event.request,
            instance=event.instance,
            attempt=event.attempt,
        )

    def _reported(self, event: Reported, now: float) -> None:
        report = event.report
        every_s = max(REPORT_EVERY_S, REPORT_EVERY_SHARE * (now - self._begun_s))
        if now - self._reported_s.get(report.instance, -math.inf) < every_s:
            return
        self._reported_s[report.instance] = now
        self._write(
            now,
            "report",
            instance=report.instance,
            running=report.running,
            waiting=report.waiting,
            free_blocks=report.free_blocks,
            cached_blocks=report.cached_blocks,
            slowdown=report.slowdown,
        )
        # Whoever reads a living gateway's log is at most this far behind.
        self._file.flush()

    def _instance_up(self, event: InstanceUp, now: float) -> None:
        spec = event.spec
        self._block_tokens[spec.model] = spec.block_tokens
        self._write(
            now,
            "instance-up",
            instance=spec.id,
            pool=spec.pool,
            model=spec.model,
            hardware=spec.hardware,
            n_blocks=spec.n_blocks,
            block_tokens=spec.block_tokens,
        )

    def _instance_down(self, event: InstanceDown, now: float) -> None:
        self._reported_s.pop(event.instance, None)
        self._write(now, "instance-down", instance=event.instance, why=event.why)
        # What a dying instance leaves behind must be on the disk when somebody asks.
        self._file.flush()

    def _leaving(self, event: Leaving, now: float) -> None:
        self._write(now, "leaving", instance=event.instance)

    def _draining(self, event: Draining, now: float) -> None:
        self._write(now, "draining")

    # ---------------------------------------------------------------- actions

    def _dispatched(self, action: Dispatch, now: float) -> None:
        known = self._under_way.get(action.request.id)
        if known is not None:
            known.attempt, known.instance = action.attempt, action.instance
        self._write(
            now,
            "dispatch",
            request=action.request.id,
            instance=action.instance,
            attempt=action.attempt,
            at_token=len(action.produced),
            why=action.why.value,
        )

    def _delivered(self, action: Deliver, now: float) -> None:
        for row in action.rows:
            known = self._under_way.get(row.request)
            if known is None:
                continue
            if row.attempt != known.attempt:
                known.attempt, known.instance = row.attempt, known.target
            if known.shown != known.attempt:
                self._first_of_attempt(row.request, known, now)
            known.n_tokens = row.start + len(row.token_ids)
            known.last_s = now

    def _first_of_attempt(self, request: RequestId, known: _UnderWay, now: float) -> None:
        known.shown = known.attempt
        since = {} if known.last_s is None else {"since_s": known.last_s}
        if known.first_s is None:
            known.first_s = now
        self._write(
            now,
            "first-token",
            request=request,
            instance=known.instance,
            attempt=known.attempt,
            position=known.n_tokens,
            **since,
        )

    def _handoff(self, action: Handoff, now: float) -> None:
        known = self._under_way.get(action.request)
        if known is not None:
            known.target = action.target
        self._write(
            now,
            "handoff",
            request=action.request,
            instance=action.instance,
            target=action.target,
            attempt=action.to_attempt,
            why=action.why.value,
        )

    def _handed_off(self, event: HandedOff, now: float) -> None:
        self._write(
            now,
            "handed-off",
            request=event.request,
            instance=event.instance,
            attempt=event.attempt,
            done=event.done,
        )

    def _completed(self, action: Complete, now: float) -> None:
        known = self._under_way.pop(action.request, None) or _UnderWay()
        self._write(
            now,
            "complete",
            request=action.request,
            instance=known.instance,
            outcome=action.outcome.value,
            why=action.why.value,
            cached_tokens=action.cached_tokens,
            output_tokens=known.n_tokens,
            first_s=known.first_s,
            last_s=known.last_s,
            **_given(reason=action.reason.value if action.reason else ""),
        )
        if action.outcome is not Outcome.FINISHED:
            self._file.flush()

    def _rejected(self, action: Reject, now: float) -> None:
        self._under_way.pop(action.request, None)
        self._write(
            now,
            "reject",
            request=action.request,
            why=action.why.value,
            retry_after_s=action.retry_after_s,
        )

    def _scale(self, action: Scale, now: float) -> None:
        self._write(now, "scale", pool=action.pool, n=action.n)

    def _set_role(self, action: SetRole, now: float) -> None:
        self._write(now, "role", instance=action.instance, role=action.role.value)

    def _stop(self, action: Stop, now: float) -> None:
        self._write(now, "stop", instance=action.instance)

    def _tell_cache(self, action: TellCache, now: float) -> None:
        self._write(now, "tell-cache", instance=action.instance)

    def _cancel(self, action: Cancel, now: float) -> None:
        self._write(
            now,
            "cancel",
            request=action.request,
            instance=action.instance,
            attempt=action.attempt,
            why=action.why.value,
        )


def objective_facts(objective: Objective) -> dict[str, Any]:
    """Its name, and what it promises."""
    times = {name: getattr(objective, name) for name in ("ttft_s", "tpot_s", "deadline_s")}
    return {"name": objective.name, **{k: v for k, v in times.items() if v is not None}}


def _given(**facts: Any) -> dict[str, Any]:
    """Those that say something."""
    return {name: value for name, value in facts.items() if value}
