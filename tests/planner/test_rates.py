"""Rates for all traces, and for one."""

from __future__ import annotations

import pytest

from fairlead.model import ConfigError
from fairlead.planner.rates import parse_rates

TRACES = ["../traces/azure.parquet", "mooncake.parquet"]


def test_rates_go_for_every_trace_that_has_none_of_its_own() -> None:
    found = parse_rates(["150,100", "mooncake=12"], TRACES)
    assert found == {TRACES[0]: [100.0, 150.0], TRACES[1]: [12.0]}


def test_without_rates_a_trace_keeps_its_pace() -> None:
    assert parse_rates([], TRACES) == {trace: [None] for trace in TRACES}
    assert parse_rates(["mooncake=1,2"], TRACES)[TRACES[0]] == [None]


def test_a_trace_is_found_by_its_path_too() -> None:
    assert parse_rates(["../traces/azure.parquet=7"], TRACES)[TRACES[0]] == [7.0]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["fast"], "no list of rates above 0"),
        (["1,,2"], "no list of rates above 0"),
        (["0"], "no list of rates above 0"),
        (["inf"], "no list of rates above 0"),
        (["moncake=3"], "did you mean 'mooncake'"),
    ],
)
def test_mistakes_are_told(texts: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_rates(texts, TRACES)
    with pytest.raises(ConfigError, match="given twice"):
        parse_rates([], ["a", "a"])
