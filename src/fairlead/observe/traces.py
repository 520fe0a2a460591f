"""A span for each request and each of its stages, for OpenTelemetry (extra `fairlead[otel]`).

    request                    from its arrival to its end
      queued                   from its arrival, or the loss of its instance, to an instance
      prefill                  from there to its first token, the instance's own queue included
      decode                   from that token to its last, or to the loss of its instance
      hand-off                 from the decision to move it to where it goes on

A client that sends `traceparent` finds the request below its own span. Which traces are kept is for
the SDK's own settings (OTEL_TRACES_SAMPLER); those that are not cost nothing per token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace import Span, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from fairlead import __version__
from fairlead.model import (
    Action,
    Arrived,
    Complete,
    Deliver,
    Dispatch,
    Event,
    HandedOff,
    Handoff,
    InstanceDown,
    Outcome,
    Preempted,
    Reject,
    Request,
    RequestId,
    TokenRow,
)

MOST_UNDER_WAY = 20_000
"""Requests that are traced at once; more are not."""
MOST_PARENTS = 1000
FLUSH_MS = 2000
NS = 1_000_000_000
_NO_FACTS: Mapping[str, Any] = {}


class _Traced:
    __slots__ = ("attempt", "handoff", "instance", "n_tokens", "root", "speaks", "stage", "target")

    def __init__(self, root: Span, stage: Span) -> None:
        self.root = root
        self.stage = stage
        """The one it is in."""
        self.handoff: Span | None = None
        self.instance = self.target = ""
        self.attempt = 0
        self.speaks = False
        """The attempt that counts has brought a token."""
        self.n_tokens = 0


class Traces:
    """An observer: show it every event with the actions that it brought."""

    def __init__(self, processor: SpanProcessor, epoch_s: float) -> None:
        """`processor` takes the spans; `epoch_s` is the time since 1970 at zero of the clock."""
        resource = Resource.create({SERVICE_NAME: "fairlead", SERVICE_VERSION: __version__})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("fairlead", __version__)
        self._epoch_ns = int(epoch_s * NS)
        self._traced: dict[RequestId, _Traced] = {}
        self._parents: dict[RequestId, Context] = {}
        self._on: Mapping[type[Any], Callable[[Any, int], None]] = {
            Arrived: self._arrived,
            Preempted: self._preempted,
            HandedOff: self._handed_off,
            InstanceDown: self._instance_down,
            Dispatch: self._dispatched,
            Deliver: self._delivered,
            Handoff: self._handing_off,
            Complete: self._completed,
            Reject: self._rejected,
        }

    def link(self, requests: Sequence[Request], traceparent: str, tracestate: str = "") -> None:
        """These requests, which are about to arrive, belong to a client's own trace."""
        carrier = {"traceparent": traceparent, "tracestate": tracestate}
        context = TraceContextTextMapPropagator().extract(carrier)
        for request in requests:
            if len(self._parents) < MOST_PARENTS:
                self._parents[request.id] = context

    def observe(self, event: Event, actions: Sequence[Action], now: float) -> None:
        at_ns = self._epoch_ns + int(now * NS)
        if (note := self._on.get(type(event))) is not None:
            note(event, at_ns)
        for action in actions:
            if (note := self._on.get(type(action))) is not None:
                note(action, at_ns)

    def close(self) -> None:
        """Sends what is left, for at most a few seconds."""
        self._provider.force_flush(FLUSH_MS)
        self._provider.shutdown()

    # ---------------------------------------------------------------- events

    def _arrived(self, event: Arrived, at_ns: int) -> None:
        request = event.request
        parent = self._parents.pop(request.id, None)
        if request.id in self._traced or len(self._traced) >= MOST_UNDER_WAY:
            return
        arrival_ns = self._epoch_ns + int(request.arrival_s * NS)
        root = self._tracer.start_span(
            "request",
            context=parent or Context(),
            kind=trace.SpanKind.SERVER,
            start_time=arrival_ns,
            attributes=_facts(request),
        )
        if root.is_recording():
            stage = self._start(root, "queued", arrival_ns, _NO_FACTS)
            self._traced[request.id] = _Traced(root, stage)

    def _preempted(self, event: Preempted, at_ns: int) -> None:
        if traced := self._traced.get(event.request):
            traced.stage.add_event("preempted", timestamp=at_ns)

    def _handed_off(self, event: HandedOff, at_ns: int) -> None:
        traced = self._traced.get(event.request)
        if traced is not None and traced.handoff is not None and not event.done:
            traced.handoff.set_status(Status(StatusCode.ERROR, "came to nothing"))
            self._end_handoff(traced, at_ns)

    def _instance_down(self, event: InstanceDown, at_ns: int) -> None:
        lost = Status(StatusCode.ERROR, f"lost: {event.why}")
        for traced in self._traced.values():
            if traced.handoff is not None and event.instance in (traced.instance, traced.target):
                traced.handoff.set_status(lost)
                self._end_handoff(traced, at_ns)
            if traced.instance == event.instance:
                traced.stage.set_status(lost)
                self._next_stage(traced, "queued", at_ns)
                traced.instance = ""

    # ---------------------------------------------------------------- actions

    def _dispatched(self, action: Dispatch, at_ns: int) -> None:
        traced = self._traced.get(action.request.id)
        if traced is not None:
            traced.instance, traced.attempt = action.instance, action.attempt
            traced.speaks = False
            facts = {"fairlead.attempt": action.attempt, "fairlead.why": action.why.value}
            self._next_stage(traced, "prefill", at_ns, facts)

    def _delivered(self, action: Deliver, at_ns: int) -> None:
        all_traced = self._traced
        if not all_traced:
            return
        for row in action.rows:
            traced = all_traced.get(row.request)
            if traced is None:
                continue
            traced.n_tokens = row.start + len(row.token_ids)
            moved = row.attempt != traced.attempt
            if moved or not traced.speaks:
                self._speaks(traced, row, moved, at_ns)

    def _speaks(self, traced: _Traced, row: TokenRow, moved: bool, at_ns: int) -> None:
        """The first token of an attempt, dispatched or moved."""
        if moved:
            traced.attempt, traced.instance = row.attempt, traced.target
            self._end_handoff(traced, at_ns)
        if not row.start:
            traced.root.add_event("first token", timestamp=at_ns)
        traced.speaks = True
        self._next_stage(traced, "decode", at_ns, {"fairlead.position": row.start})

    def _handing_off(self, action: Handoff, at_ns: int) -> None:
        traced = self._traced.get(action.request)
        if traced is not None:
            self._end_handoff(traced, at_ns)
            traced.target = action.target
            facts = {"fairlead.target": action.target, "fairlead.why": action.why.value}
            traced.handoff = self._stage(traced, "hand-off", at_ns, facts)

    def _completed(self, action: Complete, at_ns: int) -> None:
        traced = self._end(action.request, at_ns)
        if traced is None:
            return
        root = traced.root
        root.set_attribute("fairlead.outcome", action.outcome.value)
        root.set_attribute("gen_ai.usage.output_tokens", traced.n_tokens)
        root.set_attribute("fairlead.cached_tokens", action.cached_tokens)
        if action.reason is not None:
            root.set_attribute("gen_ai.response.finish_reasons", [action.reason.value])
        if action.outcome is Outcome.FAILED:
            root.set_status(Status(StatusCode.ERROR, action.why.value))
        root.end(at_ns)

    def _rejected(self, action: Reject, at_ns: int) -> None:
        traced = self._end(action.request, at_ns)
        if traced is not None:
            traced.root.set_attribute("fairlead.outcome", "rejected")
            traced.root.set_status(Status(StatusCode.ERROR, action.why.value))
            traced.root.end(at_ns)

    # ---------------------------------------------------------------- stages

    def _stage(self, traced: _Traced, name: str, at_ns: int, facts: Mapping[str, Any]) -> Span:
        where = {"fairlead.instance": traced.instance} if traced.instance else {}
        return self._start(traced.root, name, at_ns, {**where, **facts})

    def _start(self, root: Span, name: str, at_ns: int, facts: Mapping[str, Any]) -> Span:
        context = trace.set_span_in_context(root, Context())
        return self._tracer.start_span(name, context, start_time=at_ns, attributes=facts)

    def _next_stage(
        self, traced: _Traced, name: str, at_ns: int, facts: Mapping[str, Any] = _NO_FACTS
    ) -> None:
        traced.stage.end(at_ns)
        traced.stage = self._stage(traced, name, at_ns, facts)

    def _end_handoff(self, traced: _Traced, at_ns: int) -> None:
        if traced.handoff is not None:
            traced.handoff.end(at_ns)
            traced.handoff = None

    def _end(self, id: RequestId, at_ns: int) -> _Traced | None:
        traced = self._traced.pop(id, None)
        if traced is not None:
            self._end_handoff(traced, at_ns)
            traced.stage.end(at_ns)
        return traced


def _facts(request: Request) -> dict[str, Any]:
    """Names follow OpenTelemetry's conventions for generative AI, where there are any."""
    facts = {
        "fairlead.request": request.id,
        "fairlead.class": request.objective.name,
        "fairlead.tenant": request.tenant,
        "gen_ai.request.model": request.model,
        "gen_ai.request.max_tokens": request.max_tokens,
        "gen_ai.usage.input_tokens": request.prompt_tokens,
    }
    return {name: value for name, value in facts.items() if value != ""}
