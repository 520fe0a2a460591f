"""Llumnix: requests that may move later wait less at the tail than requests that are only placed
well.

Paper: Sun et al., "Llumnix: Dynamic Scheduling for Large Language Model Serving", 2024: bursts of
requests whose lengths follow a power law, so that load and memory of the instances drift apart.
That requests are preempted less often, as the paper says too, does not show here: at 15, 17 and 20
requests/s both ways preempt equally often, within what seeds make of it.
"""

from __future__ import annotations

from functools import cache
from random import Random

from fairlead.fleet.config import FleetConfig, read_config
from fairlead.simulate import simulate
from fairlead.workload.summary import Summary
from fairlead.workload.trace import TraceRow

SEEDS = range(8)
"""From one to another the tail differs tenfold."""


def fleet(rescheduling: str) -> FleetConfig:
    """Four A100s with an 8B model, and KV memory for 14,400 tokens each."""
    pool = {
        "name": "m",
        "model": "m",
        "engine": "emulated",
        "hardware": "a100-llama-3.1-8b",
        "instances": 4,
        "n_blocks": 900,
        "max_waiting": 100_000,
    }
    return read_config(
        {
            "pool": [pool],
            "policy": {
                "admission": "always",
                "routing": "least-load",
                "batching": "fcfs",
                "rescheduling": rescheduling,
            },
            "simulation": {"max_tokens": 0, "tick_s": 0.1},
        }
    )


def rows(seed: int, rate_rps: float = 20.0, cv: float = 3.0, n: int = 1500) -> list[TraceRow]:
    """Gamma arrivals; prompts and answers from 64 to 6,000 tokens."""
    draw = Random(f"llumnix {seed}")
    shape, arrival_s, made = cv**-2, 0.0, []
    for i in range(n):
        arrival_s += draw.gammavariate(shape, 1 / (shape * rate_rps))
        made.append(TraceRow(i, arrival_s, power_law(draw), power_law(draw)))
    return made


def power_law(draw: Random, exponent: float = 1.2, low: int = 64, high: int = 6000) -> int:
    share = draw.random()
    ends = low**-exponent - share * (low**-exponent - high**-exponent)
    return max(int(ends ** (-1 / exponent)), 2)


@cache
def runs(rescheduling: str) -> list[Summary]:
    return [simulate(fleet(rescheduling), rows(seed), seed=seed).summary for seed in SEEDS]


def mean_p99_ttft_s(summaries: list[Summary]) -> float:
    return sum(summary.ttft_s.p99 or 0.0 for summary in summaries) / len(summaries)


def test_migration_shortens_the_tail_of_first_tokens() -> None:
    assert mean_p99_ttft_s(runs("llumnix")) < 0.5 * mean_p99_ttft_s(runs("none"))


def test_by_few_moves_whose_pause_does_not_grow_with_the_length() -> None:
    for summary in runs("llumnix"):
        assert 0 < (summary.facts.handoffs or 0) < 150
        # Two messages, and at most 64 tokens' KV, whatever the sequence has grown to.
        assert (summary.facts.handoff_downtime_s.max or 1.0) < 0.02


def test_moves_at_random_do_not() -> None:
    assert mean_p99_ttft_s(runs("random-moves")) > mean_p99_ttft_s(runs("llumnix"))
