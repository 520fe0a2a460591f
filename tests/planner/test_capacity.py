"""The search for the highest rate, against fleets whose capacity is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fairlead.planner import capacity
from fairlead.planner.capacity import MOST_DOUBLINGS, MOST_HALVINGS, Search, capacities, search
from fairlead.planner.cell import Cell
from fairlead.planner.grid import Variant
from tests.planner.fleets import cell, config


class KnownFleet:
    """Stands in for `run_cell`: attains by the rate alone."""

    def __init__(
        self,
        attainment: Callable[[float], float],
        busy: float | None = None,
        duration_s: float = 0.0,
    ) -> None:
        self._duration_s = duration_s
        self._attainment = attainment
        self._busy = busy
        self.rates: list[float] = []

    def __call__(self, the_cell: Cell, progress: Callable[[int], None]) -> KnownFleet:
        rate = the_cell.shape.rate_rps
        assert rate is not None
        self.rates.append(rate)
        progress(40)
        return self

    def to_json(self) -> dict[str, Any]:
        return {
            "attainment": self._attainment(self.rates[-1]),
            "requests": {"total": 40},
            "duration_s": self._duration_s,
            "instances": {"busy_fraction": self._busy},
        }


def found_in(
    monkeypatch: pytest.MonkeyPatch, fleet: KnownFleet, start: float = 10.0
) -> capacity.Capacity:
    monkeypatch.setattr(capacity, "run_cell", fleet)
    return search(Search(cell(rate_rps=start), "known", 0.9, 0.02), lambda n: None)


@pytest.mark.parametrize("edge", [3.7, 10.0, 137.0])
def test_the_answer_is_within_the_tolerance(monkeypatch: pytest.MonkeyPatch, edge: float) -> None:
    fleet = KnownFleet(lambda rate: 1.0 if rate <= edge else 0.5)
    found = found_in(monkeypatch, fleet)
    assert found.highest is not None
    assert found.lowest_failed is not None
    assert edge / 1.02 <= found.highest.rate_rps <= edge < found.lowest_failed.rate_rps
    assert len(fleet.rates) < 15


def test_objectives_that_nobody_can_keep_have_no_capacity(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = KnownFleet(lambda rate: 0.6)
    found = found_in(monkeypatch, fleet)
    assert found.highest is None
    assert found.to_json()["rate_rps"] is None
    assert len(fleet.rates) == 1 + MOST_HALVINGS


def test_the_search_ends_once_requests_no_longer_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = KnownFleet(lambda rate: 0.6, busy=0.001)
    found_in(monkeypatch, fleet)
    assert len(fleet.rates) == 2


def test_objectives_that_ask_for_nothing_have_no_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = KnownFleet(lambda rate: 1.0)
    found = found_in(monkeypatch, fleet).to_json()
    assert not found["bounded"]
    assert found["rate_rps"] == 10.0 * 2**MOST_DOUBLINGS


def test_once_all_requests_come_at_once_a_higher_rate_is_not_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Forty requests whose run takes ten seconds: beyond 195 requests/s they all come at once."""
    fleet = KnownFleet(lambda rate: 1.0, duration_s=10.0)
    assert not found_in(monkeypatch, fleet).to_json()["bounded"]
    assert fleet.rates == [10.0, 20.0, 40.0, 80.0, 160.0, 320.0]


def test_a_real_fleet_of_two_carries_more_than_a_fleet_of_one() -> None:
    def fleet(n: int) -> Variant:
        pool = config().pools[0]
        table = {
            "name": pool.name,
            "engine": "emulated",
            "hardware": pool.hardware,
            "instances": n,
            "n_blocks": 600,
        }
        return Variant({"pool.0.instances": str(n)}, config("least-load", pool=[table]))

    found = capacities([fleet(1), fleet(2)], cell(limit=100), 0.9, 0.2, 1)
    one, two = (policy["rate_rps"] for policy in found["policies"])
    assert 0 < one < two
    assert [policy["label"] for policy in found["policies"]] == ["instances=1", "instances=2"]
