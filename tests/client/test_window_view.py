"""The picture of a fleet in a terminal."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from fairlead.client.window_view import lately, percent, seconds, view
from fairlead.observe.metrics import Metrics
from fairlead.observe.window import Window
from fairlead.observe.window.window import COLUMNS
from tests.world import fleet


def state(n: int = 3, **changes: Any) -> dict[str, Any]:
    window = Window(Metrics(), fleet())
    row = ["pool", "m", "", "mixed", "ok", 0.5, 0.1, 4, 256, 0, 4, 1.0]
    found = {
        "about": {"fleet": "test"},
        **window.state(10.0),
        "instances": {f"instance-with-a-long-name-{i}": list(row) for i in range(n)},
        "classes": {
            "interactive": {"met": 3, "missed": 1, "ttft_s": {"p50": 0.2, "p90": 1.5}, "tpot_s": {}}
        },
        "bins": [(2.0 * i, {"interactive": (3, 1)}) for i in range(1, 31)],
        **changes,
    }
    assert set(found["columns"]) == set(COLUMNS)
    return found


def shown(picture: dict[str, Any], height: int | None = None) -> list[str]:
    console = Console(width=80, height=height or 25, record=True, file=io.StringIO())
    console.print(view(picture, 80, height))
    return console.export_text().splitlines()


def test_it_fits_into_eighty_columns_and_tells_the_figures() -> None:
    lines = shown(state())
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "3 instances" in text
    assert "75.0%" in text
    assert "1.5/s" in text
    assert "50% █" in text
    assert "0.2 s/1.5 s" in text
    assert "▇" in text


def test_many_instances_are_as_many_as_there_is_room_for_and_the_sick_come_first() -> None:
    picture = state(500)
    picture["instances"]["instance-with-a-long-name-450"][4] = "silent"
    lines = shown(picture, 24)
    assert len(lines) <= 24
    instances = [line for line in lines if "instance-with" in line]
    assert "silent" in instances[0]
    assert any(f"… {500 - len(instances)} more" in line for line in lines)
    assert len([line for line in shown(picture) if "instance-with" in line]) == 500


def test_moves_and_tenants_are_told_where_there_are_any() -> None:
    assert not any("moving" in line or "tenants" in line for line in shown(state()))
    moving = {f"r{i}": ["a", "b", "rebalance", 9.0] for i in range(5)}
    tenant = {"met": 1, "missed": 1, "prompt_tokens": 2, "output_tokens": 3}
    text = "\n".join(shown(state(handoffs=moving, tenants={"[red]alice": tenant})))
    assert "r0: a → b (rebalance), 1 s" in text
    assert "… 2 more" in text
    assert "[red]alice: 2 requests, 50.0% met" in text


def test_an_empty_fleet_is_told_as_such() -> None:
    text = "\n".join(shown(state(0, classes={}, bins=[])))
    assert "none has come yet" in text
    assert "no request has ended yet" in text


def test_the_last_half_minute_counts() -> None:
    picture = state(bins=[(2.0 * i, {"x": (10, 0) if i <= 15 else (0, 2)}) for i in range(1, 31)])
    assert lately(picture, "x") == (0.0, 1.0)
    assert lately(picture, "x", until=15) == (5.0, 0.0)


def test_nearly_all_is_not_all() -> None:
    assert (percent(0.9999), percent(1.0), percent(0.5)) == ("99.9%", "100%", "50.0%")
    assert (seconds(None), seconds(0.0042), seconds(2.5)) == ("–", "4.2 ms", "2.5 s")
