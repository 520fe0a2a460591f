"""Past-Future: admission by the future peak has most goodput under tight memory.

Paper: Past-Future Scheduler for LLM Serving under SLA Guarantees, 2025: its comparison of goodput
and evictions under a growing number of clients, for an aggressive, a conservative and its own
scheduler, on long answers (headline: two to three times the goodput under heavy load).

Here: an 8B model on one A100 of which only 40,000 tokens of KV memory are left, answers of 670
tokens in the middle (up to 4,096, and every request allows itself 4,096), clients who ask again
when they are answered. Goodput counts answers that begin within 10 s, as in the paper, and come
without a stall: 20 ms per token, where an undisturbed batch takes 16. (The paper bounds the
longest gap; a preempted sequence loses seconds, which its mean shows as well.)
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import pytest

from fairlead.simulate import simulate
from tests.papers.runs import Clients, one_instance

FEW, SOME, MANY = 8, 50, 70
"""Clients: memory for everybody's longest answer; for most real ones; for too few of them."""
POLICIES = ("conservative", "aggressive", "past-future")


class Run(NamedTuple):
    goodput_rps: float
    rps: float
    attainment: float
    preemptions: int


@cache
def run(policy: str, n_clients: int) -> Run:
    config = one_instance(policy, objective={"ttft_s": 10.0, "tpot_s": 0.020}, n_blocks=2500)
    clients = Clients(n_clients, total=400, median_output=670, spread=0.6)
    found = simulate(config, clients).summary.to_json()
    assert found["requests"]["finished"] == 400
    return Run(
        found["goodput_rps"], 400 / found["duration_s"], found["attainment"], found["preemptions"]
    )


def test_with_memory_for_the_longest_answers_all_three_are_alike() -> None:
    goodputs = [run(policy, FEW).goodput_rps for policy in POLICIES]
    assert min(goodputs) > 0.98 * max(goodputs)


def test_past_future_has_most_goodput_and_conservative_least() -> None:
    """At `MANY` clients: conservative lets requests wait past 10 s, aggressive stalls them."""
    conservative, aggressive, past_future = (run(policy, MANY) for policy in POLICIES)
    assert past_future.goodput_rps > 1.2 * aggressive.goodput_rps
    assert aggressive.goodput_rps > 5 * conservative.goodput_rps


def test_past_future_evicts_nearly_as_little_as_conservative() -> None:
    conservative, aggressive, past_future = (run(policy, MANY) for policy in POLICIES)
    assert conservative.preemptions == 0
    assert aggressive.preemptions > 0.5 * 400
    assert past_future.preemptions < 0.1 * aggressive.preemptions


def test_past_future_pays_for_it_with_hardly_any_throughput() -> None:
    conservative, aggressive, past_future = (run(policy, MANY) for policy in POLICIES)
    assert past_future.rps == pytest.approx(aggressive.rps, rel=0.07)
    assert conservative.rps < 0.5 * past_future.rps


def test_the_knees_come_in_the_order_of_the_paper() -> None:
    """The most clients of whom nine in ten are served as promised."""
    knees = {
        policy: max(n for n in (0, FEW, SOME, MANY) if n == 0 or run(policy, n).attainment >= 0.9)
        for policy in POLICIES
    }
    assert knees == {"conservative": FEW, "aggressive": SOME, "past-future": MANY}
