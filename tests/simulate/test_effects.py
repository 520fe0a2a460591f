"""Ways of running steps, chosen in the fleet file: what they win, and where they win nothing."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.fleet.config import read_config
from fairlead.model import ConfigError
from fairlead.simulate.simulator import Simulator
from fairlead.workload.trace import TraceRow
from tests.simulate.worlds import row


def span_s(effect: dict[str, Any], rows: list[TraceRow]) -> float:
    """How long one H100 takes for all of them, who come at once, in chunks of 512 tokens."""
    pool = {"engine": "emulated", "hardware": "h100-llama-3.1-8b", "model": "m"}
    policy = {"admission": "always", "routing": "round-robin", "batching": "sarathi"}
    fleet = read_config({"pool": [{**pool, "max_sequences": 72, **effect}], "policy": policy})
    simulator = Simulator(fleet, 0)
    simulator.run(rows)
    columns = simulator.records.columns()
    assert columns.finished.all()
    return float(columns.last_s.max())


MIXED = [row(i, prompt=6000, output=850) for i in range(300)]
"""Reading the context of 72 sequences takes about as long as computing a chunk."""
DECODES = [row(i, prompt=8, output=400) for i in range(72)]
OVERLAP = {"effect": "nanoflow", "effect_params": {"dense_tokens": 512}}
SHARES = {"effect": "semi-pd", "effect_params": {"prefill_share": 0.6, "decode_share": 0.4}}


@pytest.mark.parametrize("effect", [OVERLAP, SHARES], ids=["nanoflow", "semi-pd"])
def test_a_mixed_load_gains_and_pure_decoding_does_not(effect: dict[str, Any]) -> None:
    assert span_s(effect, MIXED) < 0.95 * span_s({}, MIXED)
    assert span_s(effect, DECODES) >= 0.999 * span_s({}, DECODES)


def test_chunks_below_the_dense_batch_gain_nothing_by_overlap() -> None:
    """Nanoflow's is 2048 tokens, the chunks here are 512."""
    assert span_s({"effect": "nanoflow"}, MIXED) == span_s({}, MIXED)


def test_most_of_the_gpu_for_prompts_makes_decoding_slow() -> None:
    greedy = {"effect": "semi-pd", "effect_params": {"prefill_share": 0.9, "decode_share": 0.1}}
    assert span_s(greedy, DECODES) > 2 * span_s(SHARES, DECODES)


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        ({"effect": "nanoflw"}, "did you mean 'nanoflow'"),
        ({"effect": "semi-pd", "effect_params": {"share": 1}}, "no parameter 'share'"),
        ({"effect": "semi-pd", "effect_params": {"decode_share": 2}}, "at most 1"),
        ({"effect_params": {"decode_share": 1}}, "no effect"),
        ({"effect": "nanoflow", "engine": "embedded"}, "this one is embedded"),
    ],
)
def test_a_wrong_effect_in_a_fleet_file_is_refused(pool: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_config({"pool": [{"engine": "emulated", **pool}]})
