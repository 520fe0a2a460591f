"""Adds requests up to a Summary, part by part, so that a long run need not be held in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fairlead.workload.figures import GroupFigures, ProgramFigures, RunFacts, Summary
from fairlead.workload.percentiles import NOT_MEASURED, Distribution, Percentiles
from fairlead.workload.records import ENDINGS, Columns, Ending

ORDER = (Ending.FINISHED, Ending.REJECTED, Ending.CANCELLED, Ending.FAILED)
"""In which a Summary names the endings."""


@dataclass(slots=True)
class _Group:
    """The requests of one class, or one tenant, or all of them."""

    exact: int
    total: int = 0
    met: int = 0
    ttft_s: Distribution = field(init=False)
    tpot_s: Distribution = field(init=False)
    e2e_s: Distribution = field(init=False)

    def __post_init__(self) -> None:
        self.ttft_s, self.tpot_s, self.e2e_s = (Distribution(self.exact) for _ in range(3))

    def add(self, times: _Times, rows: NDArray[np.int64] | slice) -> None:
        met = times.met[rows]
        self.total += len(met)
        self.met += int(met.sum())
        self.ttft_s.add(times.ttft_s[rows])
        self.tpot_s.add(times.tpot_s[rows])
        self.e2e_s.add(times.e2e_s[rows])

    @property
    def attainment(self) -> float | None:
        return self.met / self.total if self.total else None

    def figures(self) -> GroupFigures:
        return GroupFigures(
            self.total,
            self.attainment,
            self.ttft_s.percentiles(),
            self.tpot_s.percentiles(),
            self.e2e_s.percentiles(),
        )


@dataclass(frozen=True, slots=True)
class _Times:
    """What all groups look at, computed once for each part."""

    met: NDArray[np.bool_]
    ttft_s: NDArray[np.float64]
    tpot_s: NDArray[np.float64]
    e2e_s: NDArray[np.float64]


@dataclass(slots=True)
class _Program:
    first_s: float = np.inf
    last_s: float = -np.inf
    requests: int = 0
    finished: int = 0
    met: int = 0


class Tally:
    """See the module. Distributions are exact up to `exact` samples and sketched beyond."""

    def __init__(self, start_s: float, warmup_s: float = 0.0, exact: int = 100_000) -> None:
        """The run began at `start_s`; requests of its first `warmup_s` count nowhere."""
        self._exact = exact
        self._start_s = start_s + warmup_s
        self._warmup_s = warmup_s
        self._left_out = 0
        self._all = _Group(exact)
        self._classes: dict[str, _Group] = {}
        self._tenants: dict[str, _Group] = {}
        self._programs: dict[str, _Program] = {}
        self._endings = np.zeros(len(ENDINGS), np.int64)
        self._ended_s = -np.inf
        self._resumed = 0
        self._good_tokens = self._prompt_tokens = self._output_tokens = 0.0
        self._told_tokens = self._cached_tokens = 0.0
        self._queue_s, self._gaps_s, self._ttft_error, self._finish_error = (
            Distribution(exact) for _ in range(4)
        )

    def add(self, columns: Columns) -> None:
        """More requests of the run."""
        if self._warmup_s > 0:
            counted = columns.arrival_s >= self._start_s
            self._left_out += int((~counted).sum())
            columns = columns.only(counted)
        self._gaps_s.add(columns.gaps_s)
        if not len(columns):
            return
        times = _Times(columns.met, columns.ttft_s, columns.tpot_s, columns.e2e_s)
        self._all.add(times, slice(None))
        self._add_groups(self._classes, times, columns.objective, _names(columns))
        self._add_groups(self._tenants, times, columns.tenant, columns.tenants)
        self._add_programs(columns, times.met)
        self._add_sums(columns, times.met)
        self._queue_s.add(columns.queue_s)
        self._ttft_error.add(columns.predicted_ttft_s - columns.ttft_s)
        self._finish_error.add(columns.predicted_e2e_s - times.e2e_s)

    def summary(self, facts: RunFacts, itl_s: Percentiles | None = None) -> Summary:
        """The figures of all that was added. `itl_s` is for a run that counted gaps itself."""
        duration_s = max(float(self._ended_s - self._start_s), 0.0) if self._all.total else 0.0

        def per_s(amount: float) -> float | None:
            return float(amount) / duration_s if duration_s > 0 else None

        summary = Summary(
            facts=facts,
            duration_s=duration_s,
            requests=self._by_ending(facts.resumed),
            attainment=self._all.attainment,
            goodput_rps=per_s(self._all.met),
            goodput_tokens_per_s=per_s(self._good_tokens),
            ttft_s=self._all.ttft_s.percentiles(),
            tpot_s=self._all.tpot_s.percentiles(),
            itl_s=itl_s if itl_s is not None else self._gaps_s.percentiles(),
            e2e_s=self._all.e2e_s.percentiles(),
            queue_s=self._queue_s.percentiles(),
            prompt_tokens_per_s=per_s(self._prompt_tokens),
            output_tokens_per_s=per_s(self._output_tokens),
            prefix_hit_ratio=(
                float(self._cached_tokens / self._told_tokens) if self._told_tokens else None
            ),
            classes=_figures(self._classes),
            tenants=_figures(self._tenants),
            programs=self._program_figures(),
            ttft_error=self._ttft_error.percentiles(),
            finish_error=self._finish_error.percentiles(),
        )
        if self._warmup_s > 0:
            summary = summary.with_extra(warmup_s=self._warmup_s, warmup_requests=self._left_out)
        return summary

    # ---------------------------------------------------------------- parts

    def _add_groups(
        self,
        groups: dict[str, _Group],
        times: _Times,
        index: NDArray[np.int64],
        names: Sequence[str],
    ) -> None:
        """Groups of one name (two objectives that a run gave the same class name) count as one."""
        order = np.argsort(index, kind="stable")
        bounds = np.searchsorted(index[order], np.arange(len(names) + 1))
        for place, name in enumerate(names):
            rows = order[bounds[place] : bounds[place + 1]]
            if len(rows):
                groups.setdefault(name, _Group(self._exact)).add(times, rows)

    def _add_programs(self, columns: Columns, met: NDArray[np.bool_]) -> None:
        finished = columns.finished
        for i in np.flatnonzero(columns.program >= 0).tolist():
            name = columns.programs[columns.program[i]]
            program = self._programs.setdefault(name, _Program())
            program.first_s = min(program.first_s, columns.arrival_s[i])
            program.last_s = max(program.last_s, columns.ended_s[i])
            program.requests += 1
            program.finished += bool(finished[i])
            program.met += bool(met[i])

    def _add_sums(self, columns: Columns, met: NDArray[np.bool_]) -> None:
        self._endings += np.bincount(columns.ending, minlength=len(ENDINGS))
        self._ended_s = max(self._ended_s, float(columns.ended_s.max()))
        self._resumed += int(columns.resumed.sum())
        self._good_tokens += columns.output_tokens[met].sum()
        self._prompt_tokens += columns.prompt_tokens[~np.isnan(columns.first_s)].sum()
        self._output_tokens += columns.output_tokens.sum()
        told = ~np.isnan(columns.cached_tokens)
        self._told_tokens += columns.prompt_tokens[told].sum()
        self._cached_tokens += columns.cached_tokens[told].sum()

    def _by_ending(self, resumed: int | None) -> dict[str, int]:
        by_ending = dict(zip(ENDINGS, self._endings.tolist(), strict=True))
        return {
            "total": self._all.total,
            **{ending.value: by_ending[ending] for ending in ORDER},
            "resumed": self._resumed if resumed is None else resumed,
        }

    def _program_figures(self) -> ProgramFigures:
        programs = self._programs.values()
        if not programs:
            return ProgramFigures(0, None, NOT_MEASURED)
        whole = [p.last_s - p.first_s for p in programs if p.finished == p.requests]
        attained = sum(p.met == p.requests for p in programs)
        return ProgramFigures(
            len(programs), attained / len(programs), Percentiles.of(np.array(whole, np.float64))
        )


def _names(columns: Columns) -> list[str]:
    return [objective.name for objective in columns.objectives]


def _figures(groups: dict[str, _Group]) -> dict[str, GroupFigures]:
    return {name: groups[name].figures() for name in sorted(groups)}
