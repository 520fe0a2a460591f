"""The figures of a run as values: what a Summary holds, and its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fairlead import __version__
from fairlead.workload.percentiles import NOT_MEASURED, Percentiles


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
    ttft_error: Percentiles
    """Predicted less actual time to first token, where the run predicted."""
    finish_error: Percentiles
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
                "ttft_error": self.ttft_error.to_json(),
                "finish_error": self.finish_error.to_json(),
            },
            "digest": facts.digest,
            **self.extra,
        }
