"""The highest request rate at which a fleet still keeps its objectives.

Found by simulations of one trace at different rates with one seed: doubling until the objectives
no longer hold (or halving until they do), then bisection between the two. This takes it that a
higher rate never helps, which holds but for the noise of single requests near the edge.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fairlead import __version__
from fairlead.planner.cell import Cell, run_cell
from fairlead.planner.grid import Variant
from fairlead.planner.pool import Progress, run_all

TOLERANCE = 0.02
"""The default: more than single seeds differ by, mostly."""
MOST_DOUBLINGS = 20
"""A million times the first rate is a rate no fleet has."""
MOST_HALVINGS = 16
"""At a 65,000th of the first rate requests no longer meet: what is missed then, is always."""


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for."""

    cell: Cell
    """Its rate is where the search begins."""
    label: str
    attain: float
    """The share of requests that must meet their objective, in (0, 1]."""
    tolerance: float
    """The answer's relative width."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What one rate brought."""

    rate_rps: float
    attainment: float
    summary: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Capacity:
    """The answer for one fleet."""

    label: str
    policy: dict[str, str]
    highest: Probe | None
    """The highest rate that held; None where even single requests miss their objectives."""
    lowest_failed: Probe | None
    """The lowest rate that did not; None where no rate was too high."""
    probes: Sequence[Probe]
    """All of them, in the order they were made."""

    def to_json(self) -> dict[str, Any]:
        return {
            "label": self.label,
            "policy": self.policy,
            "rate_rps": self.highest.rate_rps if self.highest else None,
            "attainment": self.highest.attainment if self.highest else None,
            "bounded": self.lowest_failed is not None,
            "probes": [
                {"rate_rps": probe.rate_rps, "attainment": probe.attainment}
                for probe in self.probes
            ],
            "summary": (self.highest or self.probes[-1]).summary,
        }


def capacities(
    variants: Sequence[Variant],
    cell: Cell,
    attain: float,
    tolerance: float,
    jobs: int,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The capacity of each variant as a JSON object, searched for side by side."""
    searches = [
        Search(replace(cell, config=variant.config), variant.label, attain, tolerance)
        for variant in variants
    ]
    found = run_all(search, searches, jobs, progress)
    return {
        "fairlead": __version__,
        "trace": cell.trace.name,
        "fleet": cell.fleet,
        "seed": cell.seed,
        "attain": attain,
        "tolerance": tolerance,
        "policies": [capacity.to_json() for capacity in found],
    }


def search(wanted: Search, tell: Callable[[int], None]) -> Capacity:
    """One fleet's capacity."""
    probes = _Probes(wanted, tell)
    low, high = _bracket(wanted, probes)
    while low and high and high.rate_rps > low.rate_rps * (1 + wanted.tolerance):
        middle = probes.at(math.sqrt(low.rate_rps * high.rate_rps))
        if probes.holds(middle):
            low = middle
        else:
            high = middle
    return Capacity(wanted.label, wanted.cell.config.policy.names(), low, high, probes.made)


def _bracket(wanted: Search, probes: _Probes) -> tuple[Probe | None, Probe | None]:
    """A rate that holds and one that does not, a factor of two apart; None for what was not to be
    found."""
    rate_rps = wanted.cell.shape.rate_rps
    assert rate_rps is not None
    first = probes.at(rate_rps)
    up = probes.holds(first)
    last = first
    for _ in range(MOST_DOUBLINGS if up else MOST_HALVINGS):
        now = probes.at(last.rate_rps * (2 if up else 0.5))
        if probes.holds(now) is not up:
            return (last, now) if up else (now, last)
        if not up and now.attainment <= last.attainment and _alone(now):
            break
        last = now
        if up and _all_at_once(now):
            break
    return (last, None) if up else (None, last)


def _alone(probe: Probe) -> bool:
    """Whether requests hardly met: a lower rate will not make them faster."""
    busy = probe.summary["instances"]["busy_fraction"]
    return busy is not None and busy < 0.01


def _all_at_once(probe: Probe) -> bool:
    """Whether all requests were there before hardly any had ended: a higher rate is no other."""
    n: int = probe.summary["requests"]["total"]
    duration_s: float = probe.summary["duration_s"]
    return (n - 1) / probe.rate_rps < 0.02 * duration_s


class _Probes:
    def __init__(self, wanted: Search, tell: Callable[[int], None]) -> None:
        self._wanted = wanted
        self._tell = tell
        self._requests = 0
        self.made: list[Probe] = []

    def at(self, rate_rps: float) -> Probe:
        cell = self._wanted.cell
        shape = replace(cell.shape, rate_rps=rate_rps)
        before = self._requests
        summary = run_cell(
            replace(cell, shape=shape, detailed=False), lambda n: self._tell(before + n)
        ).to_json()
        self._requests = before + summary["requests"]["total"]
        self._tell(self._requests)
        probe = Probe(rate_rps, summary["attainment"] or 0.0, summary)
        self.made.append(probe)
        return probe

    def holds(self, probe: Probe) -> bool:
        return probe.attainment >= self._wanted.attain
