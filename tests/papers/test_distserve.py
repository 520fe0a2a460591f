"""DistServe: prompts and answers on instances of their own keep tight times per token that shared
instances cannot; where objectives are loose, the shared ones take more.

Paper: Zhong et al., "DistServe: Disaggregating Prefill and Decoding for Goodput-optimized Large
Language Model Serving", 2024. Its claim is an order that turns with the objective; here four A100s
with an 8B model, log-normal lengths, and the co-located fleet chunks its prompts, which the paper's
baseline did not.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from fairlead.fleet.config import FleetConfig, read_config
from fairlead.simulate import simulate
from fairlead.workload.trace import TraceRow

TIGHT_S, LOOSE_S = 0.02, 0.03
"""Per output token. A step with a chunk of a prompt in it takes longer than the first."""
TTFT_S = 0.4


def fleet(tpot_s: float, *roles: str, batching: str = "fcfs") -> FleetConfig:
    """Two instances of each role."""
    pool: dict[str, Any] = {
        "model": "m",
        "engine": "emulated",
        "hardware": "a100-llama-3.1-8b",
        "instances": 2,
        "max_waiting": 100_000,
    }
    return read_config(
        {
            "pool": [{**pool, "name": f"{role}{i}", "role": role} for i, role in enumerate(roles)],
            "policy": {
                "admission": "always",
                "routing": "least-load",
                "batching": batching,
                "rescheduling": "none",
            },
            "objectives": {"promised": {"ttft_s": TTFT_S, "tpot_s": tpot_s}},
            "simulation": {"max_tokens": 0, "tick_s": 0.5},
        }
    )


def rows(rate_rps: float, n: int = 600) -> list[TraceRow]:
    """Poisson arrivals of prompts around 700 tokens and answers around 150."""
    draw = Random("distserve")
    arrival_s, made = 0.0, []
    for i in range(n):
        arrival_s += draw.expovariate(rate_rps)
        prompt = min(max(round(700 * draw.lognormvariate(0, 0.6)), 16), 8000)
        output = min(max(round(150 * draw.lognormvariate(0, 0.6)), 2), 2000)
        made.append(TraceRow(i, arrival_s, prompt, output))
    return made


def attained(tpot_s: float, rate_rps: float, *roles: str, **options: str) -> float:
    summary = simulate(fleet(tpot_s, *roles, **options), rows(rate_rps)).summary
    assert summary.attainment is not None
    if "decode" in roles:
        assert summary.facts.handoffs == 600
    return summary.attainment


@pytest.mark.parametrize("batching", ["fcfs", "sarathi"])
def test_a_tight_time_per_token_wants_prompts_elsewhere(batching: str) -> None:
    split = attained(TIGHT_S, 32, "prefill", "decode")
    shared = attained(TIGHT_S, 32, "mixed", "mixed", batching=batching)
    assert split > 0.9
    assert shared < 0.4


@pytest.mark.parametrize("batching", ["fcfs", "sarathi"])
def test_a_loose_one_wants_everybody_to_do_everything(batching: str) -> None:
    split = attained(LOOSE_S, 40, "prefill", "decode")
    shared = attained(LOOSE_S, 40, "mixed", "mixed", batching=batching)
    assert shared > split + 0.2


def test_the_split_fleet_bears_a_third_more_at_nine_in_ten() -> None:
    """The knee: 24/s is too much for the shared fleet and 32/s is not for the split one."""
    assert attained(TIGHT_S, 16, "mixed", "mixed") > 0.9 > attained(TIGHT_S, 24, "mixed", "mixed")
    assert attained(TIGHT_S, 32, "prefill", "decode") > 0.9
