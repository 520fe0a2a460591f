"""Makes a scenario that breaks smaller, as long as it still breaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from fairlead.simulate.scenario import Scenario


def shrink(scenario: Scenario, breaks: Callable[[Scenario], bool], plays: int = 200) -> Scenario:
    """One with fewer faults and fewer sessions, found by playing at most so many others."""
    while True:
        for candidate in _smaller(scenario):
            if plays == 0:
                return scenario
            plays -= 1
            if breaks(candidate):
                scenario = candidate
                break
        else:
            return scenario


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    """Each lacks something; those that lack most come first."""
    for kind in scenario.faults:
        rest = {other: tables for other, tables in scenario.faults.items() if other != kind}
        yield replace(scenario, faults=rest)
    n = len(scenario.sessions)
    size = n // 2
    while size:
        for start in range(0, n, size):
            kept = scenario.sessions[:start] + scenario.sessions[start + size :]
            if kept:
                yield replace(scenario, sessions=kept)
        size //= 2
    for kind, tables in scenario.faults.items():
        for i in range(len(tables)):
            fewer = [*tables[:i], *tables[i + 1 :]]
            if fewer:
                yield replace(scenario, faults={**scenario.faults, kind: fewer})
    if scenario.single_steps:
        yield replace(scenario, single_steps=False)
    if scenario.shuffled:
        yield replace(scenario, shuffled=False)
