"""The behaviour that baselines and bounds claim, on a real Instance."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from fairlead.instance import Instance
from fairlead.latency import from_coefficients
from fairlead.model import Preempted, RequestId
from fairlead.policies import registry
from fairlead.policies.batching import Batching
from tests.instance.test_instance import run
from tests.policies.test_batching import do, next_step
from tests.strategies import instance, request, spec


def with_oracle(lengths: dict[str, int], **changes: Any) -> tuple[Instance, Batching]:
    """An instance whose policy knows how long answers will be."""
    policy: Batching = registry.build("batching", "oracle-srpt", {}, Random(0))
    assert policy.oracle is not None
    policy.oracle.lengths = {RequestId(id): n for id, n in lengths.items()}
    the_spec = spec(**changes)
    return Instance(the_spec, policy, from_coefficients(the_spec.latency)), policy


def order_of_entry(inst: Instance) -> list[str]:
    """Whose first row comes when, in a batch of one."""
    entered: list[str] = []
    while inst.sequences:
        entered += [id for id, _, _ in do(inst) if id not in entered]
    return entered


def test_lpm_takes_whoever_finds_most_in_the_cache() -> None:
    inst = instance("sglang-lpm", n_blocks=64, max_sequences=1)
    shared = list(range(24))
    inst.submit(request("first", shared, out=1), 0.0)
    do(inst)
    inst.submit(request("cold", 20, out=1), 0.0)
    inst.submit(request("warm", [*shared[:12], 901, 902], out=1), 0.0)
    inst.submit(request("hot", [*shared, 903], out=1), 0.0)
    assert order_of_entry(inst) == ["hot", "warm", "cold"]


def test_lpm_falls_back_to_arrival_when_too_many_wait() -> None:
    inst = instance("sglang-lpm", {"max_queue": 1}, n_blocks=64, max_sequences=1)
    shared = list(range(24))
    inst.submit(request("first", shared, out=1), 0.0)
    do(inst)
    inst.submit(request("cold", 20, out=1), 0.0)
    inst.submit(request("hot", [*shared, 903], out=1), 0.0)
    assert order_of_entry(inst) == ["cold", "hot"]


def test_the_oracle_serves_the_shortest_answer_first_whatever_it_allows_itself() -> None:
    inst, _ = with_oracle({"long": 9, "short": 2, "middle": 5}, max_sequences=1)
    for id in ("long", "short", "middle"):
        inst.submit(request(id, 10, out=9), 0.0)
    assert order_of_entry(inst) == ["short", "middle", "long"]


def test_the_oracle_counts_what_is_left_to_compute() -> None:
    """A long prompt in front of a short answer is long work."""
    inst, _ = with_oracle({"read": 2, "write": 4}, max_sequences=1, n_blocks=200)
    inst.submit(request("read", 600, out=9), 0.0)
    inst.submit(request("write", 10, out=9), 0.0)
    assert order_of_entry(inst) == ["write", "read"]


def test_the_oracle_fills_memory_with_answers_that_it_knows_to_be_short() -> None:
    """Each may produce 100 tokens, and produces 4: with the truth all twelve fit at once."""
    truth = {f"r{i}": 4 for i in range(12)}
    sizes = {}
    for lengths in (truth, {}):
        inst, _ = with_oracle(lengths, n_blocks=60, max_sequences=32)
        for id in truth:
            inst.submit(request(id, 12, out=100), 0.0)
        sizes[bool(lengths)] = len(next_step(inst).rows)
    assert sizes == {True: 12, False: 2}


@pytest.mark.parametrize("name", ["oracle-srpt", "conservative"])
def test_nobody_is_preempted_by_one_who_knows_the_peak(name: str) -> None:
    inst = instance(name, n_blocks=60, max_sequences=32)
    for i in range(12):
        inst.submit(request(f"r{i}", prompt=11 + i % 3, out=28), 0.0)
    events, _ = run(inst)
    assert not any(isinstance(event, Preempted) for event in events)


def test_conservative_holds_back_what_aggressive_lets_in() -> None:
    sizes = {}
    for name in ("conservative", "aggressive"):
        inst = instance(name, n_blocks=60, max_sequences=32)
        for i in range(12):
            inst.submit(request(f"r{i}", prompt=12, out=100), 0.0)
        sizes[name] = len(next_step(inst).rows)
    assert sizes == {"conservative": 2, "aggressive": 12}


def test_prefill_first_lets_decodes_wait_until_no_prompt_is_left() -> None:
    inst = instance("prefill-first", {"step_tokens": 30}, n_blocks=64)
    inst.submit(request("r0", 8, out=9), 0.0)
    do(inst)
    inst.submit(request("r1", 40, out=9), 0.0)
    inst.submit(request("r2", 10, out=9), 0.0)
    assert do(inst) == [("r1", "prefill", 30)]
    assert do(inst) == [("r1", "prefill", 10), ("r2", "prefill", 10)]
    assert sorted(do(inst)) == [(id, "decode", 1) for id in ("r0", "r1", "r2")]


def test_only_the_oracle_asks_for_the_truth() -> None:
    for entry in registry.entries():
        if entry.family == "batching":
            policy = registry.build("batching", entry.name, {}, Random(0))
            assert (policy.oracle is not None) == entry.name.startswith("oracle-")
