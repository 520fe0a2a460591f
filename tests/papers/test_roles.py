"""Where the mix of a trace shifts, every static split is wrong half of the time; roles that follow
the load are right all the time.

Papers: llumnix-project/llumnix (adaptive P/D), "P/D-Serve: Serving Disaggregated Large Language
Model at Scale". Their set-ups are H20s and Ascends on traces that are not public in full; here
eight A100s with an 8B model, a minute of long prompts with short answers and a minute of the
reverse. The order is theirs: static splits fail one side, adaptive roles keep both; a ratio that
adjusts itself lies between, for it needs a while. Shared instances beat every static split here,
which neither paper says.
"""

from __future__ import annotations

from functools import cache
from random import Random

import pytest

from fairlead.fleet.config import FleetConfig, read_config
from fairlead.simulate import simulate
from fairlead.workload.trace import TraceRow

PHASE_S = 30.0
TTFT_S, TPOT_S = 1.0, 0.025
PHASES = ((35.0, 2500, 40), (60.0, 200, 400))
"""Requests a second, and their median prompt and answer."""
SPLITS = {"6P2D": (6, 2), "4P4D": (4, 4), "2P6D": (2, 6)}


def fleet(roles: str, **counts: int) -> FleetConfig:
    pool = {
        "model": "m",
        "engine": "emulated",
        "hardware": "a100-llama-3.1-8b",
        "max_waiting": 100_000,
    }
    return read_config(
        {
            "pool": [
                {**pool, "name": role, "role": role, "instances": n} for role, n in counts.items()
            ],
            "policy": {
                "admission": "always",
                "routing": "least-load",
                "batching": "fcfs",
                "rescheduling": "none",
                "roles": roles,
            },
            "objectives": {"promised": {"ttft_s": TTFT_S, "tpot_s": TPOT_S}},
            "simulation": {"max_tokens": 0, "tick_s": 0.1},
        }
    )


def rows(seed: int) -> list[TraceRow]:
    """Poisson arrivals, first of the one kind and then of the other."""
    draw = Random(f"mix {seed}")
    made: list[TraceRow] = []
    arrival_s = 0.0
    for n, (rate_rps, prompt, output) in enumerate(PHASES, 1):
        while (arrival_s := arrival_s + draw.expovariate(rate_rps)) < n * PHASE_S:
            prompt_tokens = min(max(round(prompt * draw.lognormvariate(0, 0.4)), 16), 8000)
            output_tokens = min(max(round(output * draw.lognormvariate(0, 0.5)), 2), 2000)
            made.append(TraceRow(len(made), arrival_s, prompt_tokens, output_tokens))
    return made


@cache
def attained(roles: str, **counts: int) -> float:
    attainment = simulate(fleet(roles, **counts), rows(1)).summary.attainment
    assert attainment is not None
    return attainment


@pytest.mark.parametrize("split", SPLITS)
def test_a_static_split_fails_one_side(split: str) -> None:
    prefill, decode = SPLITS[split]
    assert attained("none", prefill=prefill, decode=decode) < 0.8


def test_roles_that_follow_the_load_keep_both() -> None:
    assert attained("adaptive-pd", mixed=8) > 0.95


def test_a_ratio_that_adjusts_itself_beats_the_one_it_began_with() -> None:
    began = attained("none", prefill=4, decode=4)
    adjusts = attained("pd-serve", prefill=4, decode=4)
    assert attained("adaptive-pd", mixed=8) > adjusts > began + 0.3


def test_roles_at_random_are_worse_than_none() -> None:
    assert attained("random-roles", mixed=8) < attained("none", mixed=8)
