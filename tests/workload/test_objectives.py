"""Rows get their class from the seed, and keep it."""

from __future__ import annotations

from collections import Counter

import pytest

from fairlead.model import BATCH, ConfigError, Objective
from fairlead.workload.objectives import (
    ObjectiveDraw,
    ObjectiveMix,
    make_objective,
    parse_mix,
    parse_objective,
)
from fairlead.workload.trace import TraceRow

CLASSES = {
    "interactive": Objective("interactive", ttft_s=1.0, tpot_s=0.05),
    "task": Objective("task", deadline_s=30.0),
    "batch": BATCH,
}


def drawn(mix: ObjectiveMix, seed: int, indices: range) -> list[str]:
    draw = ObjectiveDraw(mix, seed)
    return [draw.objective(TraceRow(i, 0.0, 1, 1)).name for i in indices]


def test_shares_are_kept_and_the_rest_is_of_the_default_class() -> None:
    mix = ObjectiveMix(CLASSES, "batch", {"interactive": 0.7, "task": 0.2})
    counts = Counter(drawn(mix, 0, range(20_000)))
    assert counts["interactive"] / 20_000 == pytest.approx(0.7, abs=0.02)
    assert counts["task"] / 20_000 == pytest.approx(0.2, abs=0.02)
    assert counts["batch"] / 20_000 == pytest.approx(0.1, abs=0.02)


def test_a_row_keeps_its_class_whatever_part_is_played() -> None:
    mix = ObjectiveMix(CLASSES, "batch", {"interactive": 0.5})
    whole = drawn(mix, 3, range(100))
    assert drawn(mix, 3, range(50, 100)) == whole[50:]
    assert drawn(mix, 4, range(100)) != whole


def test_without_a_mix_all_is_of_the_default_class() -> None:
    assert set(drawn(ObjectiveMix(CLASSES, "task"), 0, range(50))) == {"task"}
    assert set(drawn(ObjectiveMix(), 0, range(50))) == {"batch"}


@pytest.mark.parametrize(
    ("default", "mix", "message"),
    [
        ("interactve", {}, "Did you mean 'interactive'"),
        ("batch", {"nosuch": 0.5}, "no objective class is named 'nosuch'"),
        ("batch", {"task": 0.7, "interactive": 0.4}, r"sum to 1\.1"),
        ("batch", {"task": -0.1}, "between 0 and 1"),
    ],
)
def test_impossible_mixes_are_refused(default: str, mix: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ObjectiveMix(CLASSES, default, mix)


def test_objectives_are_written_in_seconds() -> None:
    assert parse_objective("a:ttft=1,tpot=0.05") == Objective("a", ttft_s=1.0, tpot_s=0.05)
    assert parse_objective("b:deadline_s=30") == Objective("b", deadline_s=30.0)
    assert parse_objective("c") == Objective("c")
    assert parse_mix("a=0.7,b=0.3") == {"a": 0.7, "b": 0.3}


@pytest.mark.parametrize("text", [":ttft=1", "a:ttft", "a:ttft=x", "a:ttft=-1", "a:tftf=1"])
def test_unreadable_objectives_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_objective(text)


def test_unknown_fields_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean ttft_s"):
        make_objective("a", {"tfft_s": 1.0})
    with pytest.raises(ConfigError, match="must be a number above 0, got 'soon'"):
        make_objective("a", {"ttft_s": "soon"})
    with pytest.raises(ConfigError, match="NAME=SHARE"):
        parse_mix("a")
