"""DualMap: two instances for each prefix keep its cache warm, and keep hot prefixes from making hot
spots.

Paper: "DualMap: Enabling Both Cache Affinity and Load Balancing for Distributed LLM Serving", 2026:
the share of requests whose first token comes within five seconds, against cache affinity, least
pending tokens, lowest predicted TTFT, and Preble; eight instances, Mooncake's traces with inputs
cut at 20,480 tokens, arrival times rescaled, the first 500 requests left out.

Here: eight A100s with an 8B model, with the paper's room for 1.0M tokens each and its blocks of 128
tokens, right below the load at which the best of them breaks down. Cache affinity is
`consistent-hash` without a bound on load, least pending tokens `least-load`, and rebalancing
`hotspot`. Preble is stood for by `sglang-cache-aware`, whose rule is the same in what is compared:
the holder of the longest prefix where more of the prompt matches than does not, else whoever was
given the least so far.

What differs from the paper:
- At the knee DualMap comes first, but before the policies that see both cache and load it is ahead
  by some per cent (99 % against 97 and 89, means over four seeds), not by 1.4 to 2.25 times. It is
  by 1.6 times before cache affinity, and by more than ten before least load.
- That lead is as narrow in load. Some per cent below the knee all three keep everything; some per
  cent above it DualMap loses more than the others, for what is no longer in time goes where the
  prefix is not, and there is more to compute.
- The lowest predicted TTFT does not oscillate, for predictions include what was just sent. What is
  left of the effect is its cause: it spreads prefixes over all instances, so that less of a prompt
  is found in a cache.
- The tool-and-agent trace is not to be had but for its first 630 requests. Nearly all that they
  share is three system prompts, which soon lie on every instance: there the lowest predicted TTFT
  is as good, and at the median sooner, and DualMap is only ahead of the two that see one side.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from fairlead.fleet.config import FleetConfig, read_config
from fairlead.simulate import simulate
from fairlead.workload.summary import Summary
from fairlead.workload.trace import TraceRow, open_trace

TRACES = Path(__file__).parents[3] / "shared" / "traces"
STEP_S = 3.0
"""The traces' arrival times are rounded to so much; they are spread again."""
CUT_TOKENS = 20_480
BLOCK_TOKENS = 128
PARAMS: dict[str, dict[str, float]] = {
    "dualmap": {"level_blocks": 512 // BLOCK_TOKENS},
    # The same shortest key, and no bound that matters: a place for each prefix, come what may.
    "consistent-hash": {"prefix_blocks": 1024 // BLOCK_TOKENS, "factor": 100.0},
}
ONE_SIDED = ("consistent-hash", "least-load")
BOTH_SIDED = ("min-ttft", "sglang-cache-aware")


class Played(NamedTuple):
    """Which part of a trace, and how fast."""

    name: str
    requests: int
    rate_rps: float
    warm: int
    """Requests that only fill the caches."""


CONVERSATION = Played("mooncake_conversation", 2500, 10.5, 500)
TOOLS = Played("mooncake_arxiv_head", 630, 20.0, 100)


def fleet(routing: str) -> FleetConfig:
    pool = {
        "model": "m",
        "engine": "emulated",
        "hardware": "a100-llama-3.1-8b",
        "instances": 8,
        "block_tokens": BLOCK_TOKENS,
        "n_blocks": 8192,
        "max_waiting": 100_000,
    }
    policy = {
        "admission": "always",
        "routing": routing,
        "batching": "fcfs",
        "rescheduling": "hotspot" if routing == "dualmap" else "none",
        "params": {"routing": PARAMS.get(routing, {})},
    }
    return read_config(
        {
            "pool": [pool],
            "policy": policy,
            "objectives": {"promised": {"ttft_s": 5.0}},
            "simulation": {"max_tokens": 0, "tick_s": 0.5},
        }
    )


@cache
def rows(played: Played) -> list[TraceRow]:
    path = TRACES / f"{played.name}.parquet"
    if not path.exists():
        pytest.skip(f"{played.name} is not in ../shared/traces")
    draw = Random(f"{played.name} 0")
    taken = list(islice(open_trace(path).rows(), played.requests))
    times_s = sorted((row.arrival_s or 0.0) + draw.uniform(0, STEP_S) for row in taken)
    stretch = played.requests / played.rate_rps / (times_s[-1] - times_s[0])
    return [
        replace(
            row,
            arrival_s=stretch * (time_s - times_s[0]),
            prompt_tokens=min(row.prompt_tokens, CUT_TOKENS),
        )
        for row, time_s in zip(taken, times_s, strict=True)
    ]


@cache
def run(played: Played, routing: str) -> Summary:
    trace = rows(played)
    summary = simulate(fleet(routing), trace, warmup_s=trace[played.warm].arrival_s or 0.0).summary
    assert summary.requests["finished"] == summary.requests["total"]
    return summary


def kept(played: Played, routing: str) -> float:
    """The share of first tokens within five seconds."""
    return run(played, routing).attainment or 0.0


def cached(played: Played, routing: str) -> float:
    return run(played, routing).prefix_hit_ratio or 0.0


def test_at_the_knee_dualmap_keeps_the_most_promises() -> None:
    """Up to noise: of seeds, which spread arrivals anew, those that see both sides differ by more
    than from DualMap."""
    ours = kept(CONVERSATION, "dualmap")
    assert ours > 0.95
    for other in (*ONE_SIDED, *BOTH_SIDED):
        assert ours > kept(CONVERSATION, other) - 0.02, other


def test_and_many_more_than_a_policy_that_sees_only_caches_or_only_load() -> None:
    """Affinity makes hot spots, where some wait for a minute; balance computes everything anew."""
    assert kept(CONVERSATION, "dualmap") > 1.4 * kept(CONVERSATION, "consistent-hash")
    assert kept(CONVERSATION, "consistent-hash") > 2 * kept(CONVERSATION, "least-load")
    hot_s = run(CONVERSATION, "consistent-hash").ttft_s.p90 or 0.0
    assert hot_s > 5 * (run(CONVERSATION, "dualmap").ttft_s.p90 or 0.0)


def test_it_finds_as_much_in_caches_as_affinity_does_and_the_lowest_ttft_finds_less() -> None:
    ours = cached(CONVERSATION, "dualmap")
    assert ours > 0.9 * cached(CONVERSATION, "consistent-hash")
    assert ours > 1.03 * cached(CONVERSATION, "min-ttft")
    assert ours > 2.5 * cached(CONVERSATION, "least-load")


def test_on_tools_and_agents_the_policies_that_see_both_sides_keep_all_promises() -> None:
    for routing in ("dualmap", *BOTH_SIDED):
        assert kept(TOOLS, routing) > 0.985, routing
    for routing in ONE_SIDED:
        assert kept(TOOLS, routing) < kept(TOOLS, "dualmap") - 0.01, routing


def test_where_all_hold_the_same_prefixes_staying_with_the_cache_costs_time() -> None:
    """DualMap lets a queue grow for as long as five seconds will do; the lowest TTFT does not."""
    median_s = {name: run(TOOLS, name).ttft_s.p50 or 0.0 for name in ("dualmap", "min-ttft")}
    assert median_s["dualmap"] > 1.1 * median_s["min-ttft"]
