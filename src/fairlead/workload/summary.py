"""The figures of a run: one schema for replay, simulate, compare and the live report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairlead import __version__
from fairlead.workload.percentiles import NOT_MEASURED, Percentiles
from fairlead.workload.records import ENDINGS, Columns, Ending, RecordColumns, RequestRecord


@dataclass(frozen=True, slots=True)
class InstanceFigures:
    """What the fleet was, as far as the run could see."""

    n_max: int | None = None
    """Most instances at one time."""
    hours: float | None = None
    busy_fraction: float | None = None

    def to_json(self) -> dict[str, float | None]:
        return {"n_max": self.n_max, "hours": self.hours, "busy_fraction": self.busy_fraction}


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What records do not tell: what was run, and what only its driver could measure."""

    trace: str = ""
    fleet: str = ""
    policy: Mapping[str, str] = field(default_factory=dict)
    """Family to name: `{"routing": …, "batching": …}`."""
    seed: int = 0
    wall_s: float | None = None
    """Seconds that the run itself took; a simulation is faster than the time it covers."""
    resumed: int | None = None
    """Requests that went on elsewhere, where the driver knows better than the records."""
    preemptions: int | None = None
    handoffs: int | None = None
    handoff_downtime_s: Percentiles = NOT_MEASURED
    instances: InstanceFigures = InstanceFigures()
    cost: float | None = None
    energy_j: float | None = None
    ttft_error: Percentiles = NOT_MEASURED
    """Predicted less actual time to first token."""
    finish_error: Percentiles = NOT_MEASURED
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """The figures of one objective class, or one tenant."""

    total: int
    attainment: float | None
    ttft_s: Percentiles
    tpot_s: Percentiles
    e2e_s: Percentiles

    def to_json(self) -> dict[str, Any]:
        return {
            "total": self.total,
            "attainment": self.attainment,
            "ttft_s": self.ttft_s.to_json(),
            "tpot_s": self.tpot_s.to_json(),
            "e2e_s": self.e2e_s.to_json(),
        }


@dataclass(frozen=True, slots=True)
class ProgramFigures:
    """Programs of the run. One attained when each of its requests met its objective; its time
    runs from its first arrival to its last token, counted where all of its requests finished."""

    total: int
    attainment: float | None
    e2e_s: Percentiles

    def to_json(self) -> dict[str, Any]:
        return {
            "total": self.total,
            "attainment": self.attainment,
            "e2e_s": self.e2e_s.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Summary:
    """Every figure of a run. What was not measured is None, and null in JSON."""

    facts: RunFacts
    duration_s: float
    """From the first arrival to the end of the last request, on the run's own clock."""
    requests: Mapping[str, int]
    attainment: float | None
    """Requests that met their objective over all that arrived."""
    goodput_rps: float | None
    goodput_tokens_per_s: float | None
    """Output tokens of requests that met their objective."""
    ttft_s: Percentiles
    tpot_s: Percentiles
    itl_s: Percentiles
    e2e_s: Percentiles
    queue_s: Percentiles
    prompt_tokens_per_s: float | None
    """Prompt tokens of requests that got a first token."""
    output_tokens_per_s: float | None
    """All output tokens that clients received."""
    prefix_hit_ratio: float | None
    """Cached over all prompt tokens, of requests whose instance told."""
    classes: Mapping[str, GroupFigures]
    tenants: Mapping[str, GroupFigures]
    programs: ProgramFigures
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Keys beyond the schema, written after it: `interrupted`, `warmup_s`, `curves` …"""

    def with_extra(self, **more: Any) -> Summary:
        """The same figures with further keys; a None leaves its key out."""
        kept = {name: value for name, value in more.items() if value is not None}
        return replace(self, extra={**self.extra, **kept})

    def to_json(self) -> dict[str, Any]:
        """The object of the Summary schema; keys and their order are a promise."""
        facts = self.facts
        return {
            "fairlead": __version__,
            "trace": facts.trace,
            "fleet": facts.fleet,
            "policy": dict(facts.policy),
            "seed": facts.seed,
            "duration_s": self.duration_s,
            "wall_s": facts.wall_s,
            "requests": dict(self.requests),
            "attainment": self.attainment,
            "goodput_rps": self.goodput_rps,
            "goodput_tokens_per_s": self.goodput_tokens_per_s,
            "ttft_s": self.ttft_s.to_json(),
            "tpot_s": self.tpot_s.to_json(),
            "itl_s": self.itl_s.to_json(),
            "e2e_s": self.e2e_s.to_json(),
            "queue_s": self.queue_s.to_json(),
            "prompt_tokens_per_s": self.prompt_tokens_per_s,
            "output_tokens_per_s": self.output_tokens_per_s,
            "prefix_hit_ratio": self.prefix_hit_ratio,
            "preemptions": facts.preemptions,
            "handoffs": facts.handoffs,
            "handoff_downtime_s": facts.handoff_downtime_s.to_json(),
            "instances": facts.instances.to_json(),
            "cost": facts.cost,
            "energy_j": facts.energy_j,
            "classes": {name: group.to_json() for name, group in self.classes.items()},
            "tenants": {name: group.to_json() for name, group in self.tenants.items()},
            "programs": self.programs.to_json(),
            "prediction": {
                "ttft_error": facts.ttft_error.to_json(),
                "finish_error": facts.finish_error.to_json(),
            },
            "digest": facts.digest,
            **self.extra,
        }


def summarize(
    records: Iterable[RequestRecord] | Columns,
    facts: RunFacts | None = None,
    *,
    itl_s: Percentiles | None = None,
    warmup_s: float = 0.0,
) -> Summary:
    """The Summary of these requests; their order does not matter.

    `itl_s` is for runs that counted gaps between tokens as they came, see `Histogram`. Requests
    that arrived in the first `warmup_s` are left out of every figure, and the Summary says so.
    """
    columns = records if isinstance(records, Columns) else RecordColumns(records).columns()
    all_requests = len(columns)
    start_s = _start_s(columns) + warmup_s
    if warmup_s > 0:
        columns = columns.only(columns.arrival_s >= start_s)
    summary = _figures(columns, facts or RunFacts(), start_s, itl_s)
    if warmup_s > 0:
        left_out = all_requests - len(columns)
        summary = summary.with_extra(warmup_s=warmup_s, warmup_requests=left_out)
    return summary


def _figures(
    columns: Columns, facts: RunFacts, start_s: float, itl_s: Percentiles | None
) -> Summary:
    times = _Times(columns.met, columns.ttft_s, columns.tpot_s, columns.e2e_s)
    duration_s = float(columns.ended_s.max() - start_s) if len(columns) else 0.0
    duration_s = max(duration_s, 0.0)

    def per_s(amount: float) -> float | None:
        return float(amount) / duration_s if duration_s > 0 else None

    return Summary(
        facts=facts,
        duration_s=duration_s,
        requests=_by_ending(columns, facts.resumed),
        attainment=_share(times.met),
        goodput_rps=per_s(times.met.sum()),
        goodput_tokens_per_s=per_s(columns.output_tokens[times.met].sum()),
        ttft_s=Percentiles.of(times.ttft_s),
        tpot_s=Percentiles.of(times.tpot_s),
        itl_s=itl_s if itl_s is not None else Percentiles.of(columns.gaps_s),
        e2e_s=Percentiles.of(times.e2e_s),
        queue_s=Percentiles.of(columns.queue_s),
        prompt_tokens_per_s=per_s(columns.prompt_tokens[~np.isnan(columns.first_s)].sum()),
        output_tokens_per_s=per_s(columns.output_tokens.sum()),
        prefix_hit_ratio=_hit_ratio(columns),
        classes=_groups(times, columns.objective, [o.name for o in columns.objectives]),
        tenants=_groups(times, columns.tenant, columns.tenants),
        programs=_programs(columns, times.met),
    )


class _Times(NamedTuple):
    """What all groups look at, computed once."""

    met: NDArray[np.bool_]
    ttft_s: NDArray[np.float64]
    tpot_s: NDArray[np.float64]
    e2e_s: NDArray[np.float64]


def _start_s(columns: Columns) -> float:
    return float(columns.arrival_s.min()) if len(columns) else 0.0


def _share(mask: NDArray[np.bool_]) -> float | None:
    return float(mask.sum()) / len(mask) if len(mask) else None


def _by_ending(columns: Columns, resumed: int | None) -> dict[str, int]:
    counts = np.bincount(columns.ending, minlength=len(ENDINGS))
    by_ending = {ending.value: int(n) for ending, n in zip(ENDINGS, counts, strict=True)}
    order = (Ending.FINISHED, Ending.REJECTED, Ending.CANCELLED, Ending.FAILED)
    return {
        "total": len(columns),
        **{ending.value: by_ending[ending.value] for ending in order},
        "resumed": int(columns.resumed.sum()) if resumed is None else resumed,
    }


def _hit_ratio(columns: Columns) -> float | None:
    told = ~np.isnan(columns.cached_tokens)
    prompt_tokens = columns.prompt_tokens[told].sum()
    return float(columns.cached_tokens[told].sum() / prompt_tokens) if prompt_tokens else None


def _groups(
    times: _Times, index: NDArray[np.int64], names: Iterable[str]
) -> dict[str, GroupFigures]:
    """Figures by group, in order of name. Groups of one name (two objectives that a run gave the
    same class name) count as one."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    order = np.argsort(index, kind="stable")
    n_places = sum(map(len, places.values()))
    bounds = np.searchsorted(index[order], np.arange(n_places + 1))
    groups = {}
    for name in sorted(places):
        rows = np.concatenate([order[bounds[p] : bounds[p + 1]] for p in places[name]])
        if len(rows):
            groups[name] = _group(times, rows)
    return groups


def _group(times: _Times, rows: NDArray[np.int64]) -> GroupFigures:
    return GroupFigures(
        total=len(rows),
        attainment=_share(times.met[rows]),
        ttft_s=Percentiles.of(times.ttft_s[rows]),
        tpot_s=Percentiles.of(times.tpot_s[rows]),
        e2e_s=Percentiles.of(times.e2e_s[rows]),
    )


def _programs(columns: Columns, met: NDArray[np.bool_]) -> ProgramFigures:
    member = columns.program >= 0
    n = len(columns.programs)
    if not member.any():
        return ProgramFigures(0, None, NOT_MEASURED)
    of = columns.program[member]
    first_s = np.full(n, np.inf)
    last_s = np.full(n, -np.inf)
    np.minimum.at(first_s, of, columns.arrival_s[member])
    np.maximum.at(last_s, of, columns.ended_s[member])
    requests = np.bincount(of, minlength=n)
    finished = np.bincount(of[columns.finished[member]], minlength=n)
    attained = np.bincount(of[met[member]], minlength=n)
    there = requests > 0
    whole = there & (finished == requests)
    return ProgramFigures(
        int(there.sum()),
        _share((attained == requests)[there]),
        Percentiles.of((last_s - first_s)[whole]),
    )
