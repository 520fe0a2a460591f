"""A grid of simulations: its axes, its order, its ranks."""

from __future__ import annotations

import pytest

from fairlead.model import ConfigError
from fairlead.planner.grid import Axis, Column, Grid, Variant, combinations, compare, parse_axis
from fairlead.workload.shape import Shape
from tests.planner.fleets import TRACE, config


def test_an_axis_is_a_key_and_its_values() -> None:
    assert parse_axis("policy.routing=a, b") == Axis("policy.routing", ("a", "b"))
    assert parse_axis('x=[1,2],{a=1},"b,c"').values == ("[1,2]", "{a=1}", '"b,c"')


@pytest.mark.parametrize("text", ["policy.routing", "=a", "policy.routing=", "k=a,,b", "k=a,a"])
def test_what_is_no_axis_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="--vary"):
        parse_axis(text)


def test_every_combination_is_run_the_last_axis_fastest() -> None:
    found = combinations([Axis("a", ("1", "2")), Axis("b", ("x", "y"))])
    assert [tuple(changes.values()) for changes in found] == [
        ("1", "x"),
        ("1", "y"),
        ("2", "x"),
        ("2", "y"),
    ]
    with pytest.raises(ConfigError, match="twice"):
        combinations([Axis("a", ("1",)), Axis("a", ("2",))])


def test_a_policy_is_named_alone_and_other_values_with_their_key() -> None:
    changes = {"policy.routing": "least-load", "pool.0.instances": "4"}
    assert Variant(changes, config()).label == "least-load + instances=4"
    assert Variant({}, config("least-load", "sarathi")).label == "least-load + sarathi"


def grid(seeds: tuple[int, ...] = (0,)) -> Grid:
    axes = [Axis("policy.routing", ("round-robin", "least-load"))]
    return Grid(
        columns=[Column(TRACE, 20.0), Column(TRACE, 60.0)],
        variants=[Variant(changes, config(*changes.values())) for changes in combinations(axes)],
        axes=axes,
        shape=Shape(limit=30),
        seeds=seeds,
        fleet="two",
    )


def test_the_grid_does_not_depend_on_how_many_processes_run_it() -> None:
    def told(jobs: int) -> list[object]:
        cells = compare(grid(), jobs)["cells"]
        return [
            (c["label"], c["rate_rps"], c["rank"], c["summary"]["digest"], c["summary"]["ttft_s"])
            for c in cells
        ]

    assert told(1) == told(2)


def test_cells_hold_a_summary_a_rank_and_intervals_over_seeds() -> None:
    the_grid = grid((0, 1, 2))
    assert the_grid.check() == len(the_grid.cells()) * 30
    comparison = compare(the_grid, 1)
    assert [cell["rate_rps"] for cell in comparison["cells"]] == [20.0, 20.0, 60.0, 60.0]
    for column in (comparison["cells"][:2], comparison["cells"][2:]):
        assert sorted(cell["rank"] for cell in column) == [1, 2]
        best = min(column, key=lambda cell: int(cell["rank"]))
        assert best["like_best"]
        goodput = [cell["over_seeds"]["goodput_rps"]["mean"] for cell in column]
        assert best["over_seeds"]["goodput_rps"]["mean"] == max(goodput)
    cell = comparison["cells"][0]
    assert cell["summary"]["seed"] == 0
    assert "curves" in cell["summary"]
    found = cell["over_seeds"]
    assert found["seeds"] == [0, 1, 2]
    # Each seed draws its own mix of classes, and so its own run.
    assert len(set(found["digests"])) == 3
    assert len(found["ttft_s_p50"]["values"]) == 3
    assert found["ttft_s_p50"]["half_width"] > 0


def test_a_mistake_in_a_trace_shows_before_anything_runs() -> None:
    wrong = Shape(window_s=(1e6, 2e6))
    the_grid = Grid([Column(TRACE, None)], [Variant({}, config())], [], wrong, [0])
    with pytest.raises(ConfigError, match="no row to play"):
        the_grid.check()
