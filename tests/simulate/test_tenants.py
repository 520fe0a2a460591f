"""Whose cached prefixes a simulated request finds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fairlead.simulate.simulator import Simulator
from fairlead.workload.trace import TraceRow
from tests.simulate.worlds import config


@pytest.mark.parametrize(
    ("table", "second", "shares", "hit"),
    [
        pytest.param({}, "b", False, 64, id="no-keys"),
        pytest.param({"tenants": {"database": "x"}}, "b", False, 0, id="keys"),
        pytest.param({"tenants": {"database": "x"}}, "a", False, 64, id="of-one-tenant"),
        pytest.param({"tenants": {"database": "x"}}, "b", True, 64, id="both-opted-in"),
        pytest.param({"gateway": {"api_keys": {"k": "a"}}}, "b", False, 0, id="keys-in-the-file"),
    ],
)
def test_tenants_with_keys_find_no_prefix_of_each_other(
    table: dict[str, dict[str, object]], second: str, shares: bool, hit: int
) -> None:
    """As in a gateway, where the fleet file gives keys to anybody."""
    fleet = replace(config(pool={"instances": 1}), **table)
    simulator = Simulator(fleet)
    simulator.run(
        TraceRow(
            index=i,
            arrival_s=float(i),
            prompt_tokens=70,
            output_tokens=2,
            hash_ids=(1, 2, 3, 4),
            hash_block_tokens=16,
            tenant=tenant,
            shares_prefixes=shares,
        )
        for i, tenant in enumerate(("a", second))
    )
    assert list(simulator.records.columns().cached_tokens) == [0, hit]
