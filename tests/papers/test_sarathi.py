"""Sarathi-Serve: prefills of their own stall decodes; chunks that ride along do not.

Paper: Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve, 2024: the generation
stalls of figure 1, serving capacity under a bound on the 99th percentile of the time between
tokens (up to 2.6 times vLLM's for a 7B model on one A100), and the cost of chunking.

Here: an 8B model on one A100, prompts of 1,700 and answers of 300 tokens in the middle (the shape
of the paper's conversations), arriving at random; `prefill-first` is the scheduler that vLLM had
then.
"""

from __future__ import annotations

from functools import cache
from random import Random
from typing import NamedTuple

import pytest

from fairlead.simulate import simulate
from fairlead.workload.trace import TraceRow
from tests.papers.runs import one_instance

N_REQUESTS = 200
RATES_RPS = (0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0)
"""Up to what the instance can serve for ever: all at once it takes 3.1 a second."""
STRICT_S = 0.1
"""Bound on the 99th percentile of the time between tokens, the paper's strict one for 7B."""
WAITED_S = 2.0
"""Bound on the median time to the first token, so that no queue grows."""
AT_ONCE = 0.0


class Run(NamedTuple):
    median_gap_s: float
    p99_gap_s: float
    longest_gap_s: float
    median_ttft_s: float
    duration_s: float


def requests(rate_rps: float) -> list[TraceRow]:
    draw = Random("conversations")
    rows, now = [], 0.0
    for i in range(N_REQUESTS):
        if rate_rps > AT_ONCE:
            now += draw.expovariate(rate_rps)
        prompt = min(max(round(1700 * draw.lognormvariate(0.0, 0.7)), 50), 8000)
        output = min(max(round(300 * draw.lognormvariate(0.0, 0.7)), 2), 2000)
        rows.append(TraceRow(i, now, prompt, output))
    return rows


@cache
def run(policy: str, rate_rps: float, chunk_tokens: int | None = None) -> Run:
    params = {} if chunk_tokens is None else {"chunk_tokens": chunk_tokens}
    config = one_instance(policy, params, objective={}, max_sequences=128)
    found = simulate(config, requests(rate_rps)).summary.to_json()
    assert found["requests"]["finished"] == N_REQUESTS
    gaps_s = found["itl_s"]
    return Run(
        gaps_s["p50"], gaps_s["p99"], gaps_s["max"], found["ttft_s"]["p50"], found["duration_s"]
    )


def capacity_rps(policy: str, chunk_tokens: int | None = None) -> float:
    """The highest rate up to which both bounds hold."""
    held = 0.0
    for rate_rps in RATES_RPS:
        found = run(policy, rate_rps, chunk_tokens)
        if found.p99_gap_s > STRICT_S or found.median_ttft_s > WAITED_S:
            break
        held = rate_rps
    return held


def test_prefills_of_their_own_stall_streams_and_chunks_do_not() -> None:
    """Figure 1: the same median, and gaps that a reader sees against none."""
    alone, chunked = run("prefill-first", 2.0), run("sarathi", 2.0, 512)
    assert chunked.median_gap_s == pytest.approx(alone.median_gap_s, rel=0.1)
    assert alone.p99_gap_s > 2.5 * chunked.p99_gap_s
    assert alone.longest_gap_s > 10 * chunked.longest_gap_s
    assert chunked.longest_gap_s < 4 * chunked.median_gap_s


def test_without_chunks_mixing_alone_does_not_help() -> None:
    """Whole prompts beside decodes: every long one is still a stall for everybody."""
    mixed, chunked = run("sarathi", 2.0, 16384), run("sarathi", 2.0, 512)
    assert mixed.p99_gap_s > 2.5 * chunked.p99_gap_s


def test_stalls_grow_with_the_load_and_with_chunks_they_do_not() -> None:
    alone = [run("prefill-first", rate).p99_gap_s for rate in (1.0, 2.0, 3.0)]
    chunked = [run("sarathi", rate, 512).p99_gap_s for rate in (1.0, 2.0, 3.0)]
    assert alone[0] < alone[1] < alone[2]
    assert max(chunked) < 1.1 * min(chunked)


def test_under_a_strict_bound_chunking_serves_two_to_four_times_the_load() -> None:
    ratio = capacity_rps("sarathi", 512) / capacity_rps("prefill-first")
    assert 2.0 <= ratio <= 4.0


def test_chunking_costs_a_little_throughput_and_thin_chunks_cost_much() -> None:
    """Everything at once: the time for all of it, against that of whole prompts."""
    whole_s = run("prefill-first", AT_ONCE).duration_s
    cost = {
        chunk: run("sarathi", AT_ONCE, chunk).duration_s / whole_s for chunk in (2048, 512, 128)
    }
    assert cost[2048] < 1.05
    assert cost[2048] < cost[512] < 1.15
    assert cost[128] > 1.5


def test_the_price_of_chunks_is_a_later_first_token() -> None:
    assert run("sarathi", 2.0, 128).median_ttft_s > run("sarathi", 2.0, 512).median_ttft_s
    assert run("sarathi", 2.0, 512).median_ttft_s > run("prefill-first", 2.0).median_ttft_s
