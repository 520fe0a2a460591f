"""What Prometheus is shown: computed from events and actions, and from nothing else.

Names carry their unit and are promises. Labels are bounded: objective classes, reasons, and the
instances that are up. Counting is plain arithmetic, once per frame and once per request; families
are built only when somebody asks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from fairlead.model import (
    Action,
    Arrived,
    Complete,
    Deliver,
    Dispatch,
    DispatchWhy,
    Draining,
    Event,
    HandedOff,
    InstanceDown,
    InstanceId,
    InstanceSpec,
    InstanceUp,
    Leaving,
    Outcome,
    Preempted,
    Reject,
    Report,
    Reported,
    Request,
    RequestId,
    Stop,
    TokenRow,
)
from fairlead.observe.histogram import Buckets
from fairlead.observe.oscillation import Oscillations
from fairlead.observe.prediction import Predicted, PredictionErrors

TTFT_BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
TPOT_BOUNDS_S = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.5, 1.0)
E2E_BOUNDS_S = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class ClassFigures:
    """Figures of one objective class, since the beginning."""

    __slots__ = ("e2e", "met", "missed", "outcomes", "tpot", "ttft")

    def __init__(self) -> None:
        self.outcomes: defaultdict[str, int] = defaultdict(int)
        self.met = 0
        self.missed = 0
        self.ttft = Buckets(TTFT_BOUNDS_S)
        self.tpot = Buckets(TPOT_BOUNDS_S)
        self.e2e = Buckets(E2E_BOUNDS_S)


class Totals(NamedTuple):
    """Counts since the beginning, for whoever shows what has happened lately."""

    arrived: int
    under_way: int
    output_tokens: int
    prompt_tokens: int
    cached_tokens: int
    resumed: int
    preemptions: int
    deaths: int
    handoffs_done: int
    handoffs_failed: int
    rejected: int


class _UnderWay:
    """What must be remembered of a request until it ends."""

    __slots__ = ("first_token_s", "last_row", "predicted", "request")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.first_token_s: float | None = None
        self.last_row: TokenRow | None = None
        self.predicted: Predicted | None = None
        """What the fleet knows of it, the times that it predicted among that."""


class Metrics(Collector):
    """An observer: show it every event with the actions that it brought."""

    def __init__(self, predicted: Mapping[RequestId, Predicted] | None = None) -> None:
        """`predicted` is where to find what was predicted of a request that is dispatched: the
        fleet's `requests`. Without it no errors of predictions are counted."""
        self._predicted = {} if predicted is None else predicted
        self._errors = PredictionErrors()
        self._oscillations = Oscillations()
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._under_way: dict[RequestId, _UnderWay] = {}
        self._specs: dict[InstanceId, InstanceSpec] = {}
        self._reports: dict[InstanceId, Report] = {}
        self._to_go: dict[InstanceId, None] = {}
        """Instances that were told to end, or said that they would: no deaths."""
        self._classes: defaultdict[str, ClassFigures] = defaultdict(ClassFigures)
        self._dispatches: defaultdict[str, int] = defaultdict(int)
        self._rejections: defaultdict[str, int] = defaultdict(int)
        self._handoffs: dict[str, int] = {"done": 0, "failed": 0}
        self._resumed = self._preemptions = self._deaths = 0
        self._output_tokens = self._prompt_tokens = self._cached_tokens = 0
        self._arrivals = 0
        self._draining = False
        self.ended: list[Callable[[Request, bool, int], None]] = []
        """Called with every request that ends, whether it kept its objective, and how many tokens
        it brought."""
        self._on_event: dict[type[Any], Callable[..., None]] = {
            Arrived: self._arrived,
            Reported: self._reported,
            InstanceUp: self._instance_up,
            InstanceDown: self._instance_down,
            Preempted: self._preempted,
            HandedOff: self._handed_off,
            Leaving: self._is_to_go,
            Draining: self._drain,
        }
        self._on_action: dict[type[Any], Callable[..., None]] = {
            Deliver: self._delivered,
            Dispatch: self._dispatched,
            Complete: self._completed,
            Reject: self._rejected,
            Stop: self._is_to_go,
        }

    def observe(self, event: Event, actions: Sequence[Action], now: float) -> None:
        """Counts one event and what it brought."""
        self._oscillations.observe(event, actions, now)
        seen = self._on_event.get(type(event))
        if seen is not None:
            seen(event)
        for action in actions:
            done = self._on_action.get(type(action))
            if done is not None:
                done(action, now)

    def show_also(self, more: Collector) -> None:
        """Figures that do not come from events and actions."""
        self._registry.register(more)

    def exposition(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self._registry)

    @property
    def classes(self) -> Mapping[str, ClassFigures]:
        return self._classes

    @property
    def errors(self) -> PredictionErrors:
        return self._errors

    @property
    def draining(self) -> bool:
        return self._draining

    def totals(self) -> Totals:
        return Totals(
            arrived=self._arrivals,
            under_way=len(self._under_way),
            output_tokens=self._output_tokens,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            resumed=self._resumed,
            preemptions=self._preemptions,
            deaths=self._deaths,
            handoffs_done=self._handoffs["done"],
            handoffs_failed=self._handoffs["failed"],
            rejected=sum(self._rejections.values()),
        )

    # ---------------------------------------------------------------- events

    def _arrived(self, event: Arrived) -> None:
        self._arrivals += 1
        self._under_way.setdefault(event.request.id, _UnderWay(event.request))

    def _reported(self, event: Reported) -> None:
        if event.report.instance in self._specs:
            self._reports[event.report.instance] = event.report

    def _instance_up(self, event: InstanceUp) -> None:
        self._specs[event.spec.id] = event.spec
        self._to_go.pop(event.spec.id, None)

    def _is_to_go(self, news: Leaving | Stop, now: float = 0.0) -> None:
        if news.instance in self._specs:
            self._to_go[news.instance] = None

    def _instance_down(self, event: InstanceDown) -> None:
        if self._specs.pop(event.instance, None) is not None:
            self._reports.pop(event.instance, None)
            self._deaths += event.instance not in self._to_go
            self._to_go.pop(event.instance, None)

    def _preempted(self, event: Preempted) -> None:
        self._preemptions += 1

    def _handed_off(self, event: HandedOff) -> None:
        self._handoffs["done" if event.done else "failed"] += 1

    def _drain(self, event: Draining) -> None:
        self._draining = True

    # ---------------------------------------------------------------- actions

    def _delivered(self, action: Deliver, now: float) -> None:
        under_way, n_tokens = self._under_way, 0
        for row in action.rows:
            n_tokens += len(row.token_ids)
            known = under_way.get(row.request)
            if known is not None:
                known.last_row = row
                if known.first_token_s is None:
                    known.first_token_s = now
                    if known.predicted is not None:
                        took_s = now - known.request.arrival_s
                        self._errors.add("ttft", known.predicted.predicted_ttft_s, took_s)
        self._output_tokens += n_tokens

    def _dispatched(self, action: Dispatch, now: float) -> None:
        self._dispatches[action.why.value] += 1
        self._resumed += action.why is DispatchWhy.INSTANCE_LOST
        known = self._under_way.get(action.request.id)
        if known is not None and known.predicted is None:
            known.predicted = self._predicted.get(action.request.id)

    def _rejected(self, action: Reject, now: float) -> None:
        self._rejections[action.why.value] += 1
        known = self._under_way.pop(action.request, None)
        if known is not None:
            figures = self._classes[known.request.objective.name]
            figures.outcomes["rejected"] += 1
            figures.missed += 1
            self._tell_of_end(known, met=False)

    def _completed(self, action: Complete, now: float) -> None:
        known = self._under_way.pop(action.request, None)
        if known is None:
            return
        figures = self._classes[known.request.objective.name]
        figures.outcomes[action.outcome.value] += 1
        finished = action.outcome is Outcome.FINISHED
        met = finished and _time(known, figures, now)
        if met:
            figures.met += 1
        else:
            figures.missed += 1
        if finished and known.predicted is not None:
            took_s = now - known.request.arrival_s
            self._errors.add("e2e", known.predicted.predicted_e2e_s, took_s)
        self._prompt_tokens += known.request.prompt_tokens
        self._cached_tokens += action.cached_tokens
        self._tell_of_end(known, met)

    def _tell_of_end(self, known: _UnderWay, met: bool) -> None:
        row = known.last_row
        n_tokens = 0 if row is None else row.start + len(row.token_ids)
        for tell in self.ended:
            tell(known.request, met, n_tokens)

    # ---------------------------------------------------------------- what Prometheus reads

    def collect(self) -> Iterator[Metric]:
        yield from self._collect_requests()
        yield from self._collect_classes()
        yield self._errors.collect()
        yield from self._collect_instances()

    def _collect_requests(self) -> Iterator[Metric]:
        yield _counter("output_tokens", "Tokens delivered to clients", self._output_tokens)
        yield _counter("prompt_tokens", "Prompt tokens of requests that ended", self._prompt_tokens)
        yield _counter("cached_tokens", "Of those, found in a prefix cache", self._cached_tokens)
        yield _counter("resumed", "Requests sent on after their instance was lost", self._resumed)
        yield _counter("preemptions", "Sequences that lost their KV to others", self._preemptions)
        yield _by_why("dispatches", "Requests sent to instances", self._dispatches)
        yield _by_why("rejections", "Requests that were not accepted", self._rejections)
        handoffs = CounterMetricFamily(
            "fairlead_handoffs", "Sequences that moved with their KV", labels=["outcome"]
        )
        for outcome, n in self._handoffs.items():
            handoffs.add_metric([outcome], n)
        yield handoffs
        oscillations = CounterMetricFamily(
            "fairlead_oscillations", "Moves that took another back", labels=["of"]
        )
        for kind, n in self._oscillations.counts.items():
            oscillations.add_metric([kind], n)
        yield oscillations
        under_way = "Requests that arrived and have not ended"
        yield GaugeMetricFamily("fairlead_requests_under_way", under_way, len(self._under_way))

    def _collect_classes(self) -> Iterator[Metric]:
        label = ["class"]
        ended = CounterMetricFamily(
            "fairlead_requests", "Requests that ended", labels=["outcome", "class"]
        )
        met = CounterMetricFamily(
            "fairlead_objective_met", "Requests that kept their objective", labels=label
        )
        missed = CounterMetricFamily(
            "fairlead_objective_missed", "Requests that did not keep it", labels=label
        )
        times = {
            field: HistogramMetricFamily(f"fairlead_{field}_seconds", text, labels=label)
            for field, text in _TIMES.items()
        }
        for name, figures in self._classes.items():
            for outcome, n in figures.outcomes.items():
                ended.add_metric([outcome, name], n)
            met.add_metric([name], figures.met)
            missed.add_metric([name], figures.missed)
            for field, family in times.items():
                histogram: Buckets = getattr(figures, field)
                family.add_metric([name], histogram.cumulative(), sum_value=histogram.total)
        yield from (ended, met, missed, *times.values())

    def _collect_instances(self) -> Iterator[Metric]:
        n = len(self._specs)
        states = GaugeMetricFamily("fairlead_instances", "Instances by state", labels=["state"])
        states.add_metric(["up"], 0 if self._draining else n)
        states.add_metric(["draining"], n if self._draining else 0)
        yield states
        yield _counter("instance_deaths", "Instances that went away unasked", self._deaths)
        for name, (text, read) in _GAUGES.items():
            family = GaugeMetricFamily(f"fairlead_instance_{name}", text, labels=["instance"])
            for instance, report in self._reports.items():
                family.add_metric([instance], read(report, self._specs[instance]))
            yield family


_TIMES = {
    "ttft": "Arrival to first token",
    "tpot": "Per output token after the first",
    "e2e": "Arrival to last token",
}


def _kv_fraction(report: Report, spec: InstanceSpec) -> float:
    return 1 - (report.free_blocks + report.cached_blocks) / spec.n_blocks


_GAUGES: dict[str, tuple[str, Callable[[Report, InstanceSpec], float]]] = {
    "running": ("Sequences that run", lambda report, spec: report.running),
    "waiting": ("Sequences in its queue", lambda report, spec: report.waiting),
    "kv_fraction": ("KV blocks in use, 0 to 1", _kv_fraction),
    "kv_tokens": (
        "Tokens that its KV memory holds",
        lambda report, spec: spec.n_blocks * spec.block_tokens,
    ),
    "kv_bytes_per_token": (
        "Of the model; 0 where the engine does not say",
        lambda report, spec: spec.kv_bytes_per_token,
    ),
    "slowdown": ("Measured over predicted step time", lambda report, spec: report.slowdown),
}


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"fairlead_{name}", text, value)


def _by_why(name: str, text: str, counts: dict[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"fairlead_{name}", text, labels=["why"])
    for why, n in counts.items():
        family.add_metric([why], n)
    return family


def _time(known: _UnderWay, figures: ClassFigures, now: float) -> bool:
    """Records how long a finished request took; returns whether it kept its objective."""
    request = known.request
    e2e_s = now - request.arrival_s
    figures.e2e.add(e2e_s)
    ttft_s, tpot_s = e2e_s, None
    if known.first_token_s is not None and known.last_row is not None:
        ttft_s = known.first_token_s - request.arrival_s
        figures.ttft.add(ttft_s)
        n_tokens = known.last_row.start + len(known.last_row.token_ids)
        if n_tokens > 1:
            tpot_s = (now - known.first_token_s) / (n_tokens - 1)
            figures.tpot.add(tpot_s)
    return request.objective.met(ttft_s, tpot_s, e2e_s)
