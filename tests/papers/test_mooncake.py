"""Mooncake: who rejects early on the load of now makes prefill and decode swing against each other;
who rejects on the load at the time when the prompt will be computed does not.

Paper: Qin et al., "Mooncake: A KVCache-centric Disaggregated Architecture for LLM Serving", 2025,
the figure of both loads over time, and the table of rejections under overload. Here four A100s
with an 8B model prefill and two decode, log-normal lengths, and Poisson arrivals at six times what
two can decode; the first rush, which overshoots either way, is cut off.

Differences. The paper counts rejections, of which prediction makes fewer. Here it makes a few more,
and keeps at least twice as many promises: under the naive rule whoever comes with the crest of a
wave is prefilled in vain. Load lags only as far as prefill has a queue: at twice the capacity, the
paper's overload, the naive rule swings little and wastes nothing, and prediction, which reserves
for what is still to come, keeps 3 or 4 % fewer promises. With prediction prefill is busy, too, when
decode is not, but in small: what goes is the swing, not its sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from random import Random
from statistics import correlation, fmean, pstdev

import pytest

from fairlead.fleet.config import FleetConfig, read_config
from fairlead.simulate import simulate
from fairlead.simulate.timeline import Timeline
from fairlead.workload.summary import Summary
from fairlead.workload.trace import TraceRow

SEEDS = range(2)
"""Six were looked at; the figures of the others lie within what is asserted."""
RUSH_S, END_S = 30.0, 60.0
OVERLOAD_RPS, DOUBLE_RPS = 120.0, 40.0
NAIVE, PREDICTED = "mooncake-early", "mooncake-predicted"


def fleet(admission: str) -> FleetConfig:
    """Four instances prefill and two decode; a tenth of the promise is kept in reserve."""
    pool = {
        "model": "m",
        "engine": "emulated",
        "hardware": "a100-llama-3.1-8b",
        "max_waiting": 100_000,
    }
    return read_config(
        {
            "pool": [
                {**pool, "name": "prefill", "role": "prefill", "instances": 4},
                {**pool, "name": "decode", "role": "decode", "instances": 2},
            ],
            "policy": {
                "admission": admission,
                "routing": "least-load",
                "batching": "fcfs",
                "rescheduling": "none",
                "params": {"admission": {"most": 0.9}},
            },
            "objectives": {"promised": {"ttft_s": 10.0, "tpot_s": 0.03}},
            "simulation": {"max_tokens": 0, "tick_s": 0.5},
        }
    )


def rows(seed: int, rate_rps: float) -> list[TraceRow]:
    """Prompts around 2,000 tokens and answers around 300, which take eight seconds."""
    draw = Random(f"mooncake {seed}")
    arrival_s, made = 0.0, []
    while arrival_s < END_S:
        prompt = min(max(round(2000 * draw.lognormvariate(0, 0.3)), 16), 16000)
        output = min(max(round(300 * draw.lognormvariate(0, 0.3)), 2), 4000)
        made.append(TraceRow(len(made), arrival_s, prompt, output))
        arrival_s += draw.expovariate(rate_rps)
    return made


@dataclass(frozen=True)
class Run:
    summary: Summary
    prefill: list[int]
    """Requests that wait for prefill or are in it, over time."""
    decode: list[int]
    """Requests that decode, over time."""

    @property
    def met(self) -> float:
        return (self.summary.attainment or 0.0) * self.summary.requests["total"]

    @property
    def wasted(self) -> float:
        """Share of those prefilled that missed their objective."""
        return 1 - self.met / self.summary.requests["finished"]


@cache
def run(admission: str, seed: int, rate_rps: float = OVERLOAD_RPS) -> Run:
    done = simulate(
        fleet(admission), rows(seed, rate_rps), seed=seed, timeline_s=0.25, warmup_s=RUSH_S
    )
    return Run(done.summary, load(done.timeline, "prefill"), load(done.timeline, "decode"))


def load(timeline: Timeline, pool: str) -> list[int]:
    """Requests on the instances of the pool, after the rush and before arrivals end."""
    tracks = [track for name, track in timeline.tracks.items() if name.startswith(pool)]
    return [
        sum(track.running[i] + track.waiting[i] for track in tracks)
        for i, time_s in enumerate(tracks[0].time_s)
        if RUSH_S < time_s < END_S
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_naive_rule_makes_both_loads_swing_against_each_other(seed: int) -> None:
    naive = run(NAIVE, seed)
    assert correlation(naive.prefill, naive.decode) < -0.2
    # Prefill is idle at one time, and has four seconds' worth of prompts at another.
    assert min(naive.prefill) == 0
    assert max(naive.prefill) > 150
    assert max(naive.decode) > 1.8 * min(naive.decode)


@pytest.mark.parametrize("seed", SEEDS)
def test_prediction_takes_the_swing_away(seed: int) -> None:
    naive, predicted = run(NAIVE, seed), run(PREDICTED, seed)
    assert pstdev(predicted.prefill) < 0.25 * pstdev(naive.prefill)
    assert pstdev(predicted.decode) < 0.25 * pstdev(naive.decode)
    # And not because decode is left idle: it is as busy as the naive rule's quiet times.
    assert fmean(predicted.decode) > min(naive.decode)


@pytest.mark.parametrize("seed", SEEDS)
def test_prediction_wastes_no_prefill_and_keeps_more_promises(seed: int) -> None:
    naive, predicted = run(NAIVE, seed), run(PREDICTED, seed)
    assert naive.wasted > 0.4
    assert predicted.wasted < 0.05
    assert predicted.met > 1.5 * naive.met


def test_where_prefill_has_no_queue_there_is_nothing_to_cure_and_prediction_costs_little() -> None:
    naive, predicted = run(NAIVE, 0, DOUBLE_RPS), run(PREDICTED, 0, DOUBLE_RPS)
    assert naive.wasted < 0.05
    assert 0.9 * naive.met < predicted.met < naive.met
