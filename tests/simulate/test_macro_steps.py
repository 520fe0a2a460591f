"""A run of iterations equals the same iterations one by one, whoever decides about them."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest

from fairlead.simulate.simulator import Simulator
from tests.simulate.worlds import config, crowd, watched
from tests.strategies import ADMISSION, BATCHING, ROUTING

POLICIES = [
    {"batching": batching, "routing": routing, "admission": admission}
    for batching in BATCHING
    for routing in ROUTING
    for admission in ADMISSION
]
PREEMPTIONS, MOVES = {"n": 0}, {"n": 0}


def tight(seed: int, policy: dict[str, str], **pool: Any) -> Any:
    """A fleet in which memory and seats run out. Times that are no multiples of each other. In
    half of them tenants have keys."""
    rng = Random(f"{seed} tight")
    drawn = {
        "n_blocks": rng.randint(46, 70),
        "max_sequences": rng.randint(2, 12),
        "max_waiting": rng.randint(1, 12),
        "instances": rng.randint(1, 3),
    }
    times = {"delay_s": 0.00047, "report_s": 0.4937, "tick_s": 0.9973}
    fleet = config(policy, drawn | pool, times | {"max_tokens": rng.choice([0, 90])})
    return replace(fleet, tenants={"database": "nobody opens it"} if seed % 2 else {})


def assert_same(runs: list[Any]) -> None:
    (first, ours), (second, theirs) = runs
    assert first.facts()["preemptions"] == second.facts()["preemptions"]
    for name in ("ending", "output_tokens", "cached_tokens", "resumed", "objective"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)
    for name in ("arrival_s", "first_s", "ended_s", "predicted_ttft_s", "predicted_e2e_s"):
        np.testing.assert_allclose(
            getattr(ours, name), getattr(theirs, name), rtol=0, atol=1e-6, err_msg=name
        )
    np.testing.assert_allclose(
        ours.last_s[ours.finished], theirs.last_s[theirs.finished], rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(
    "number", range(len(POLICIES)), ids=lambda n: "-".join(POLICIES[n].values())
)
def test_runs_equal_single_iterations_for_every_composition_of_policies(number: int) -> None:
    fleet = tight(number, POLICIES[number])
    rows = crowd(number, 30, 80)
    runs = []
    for single_steps in (False, True):
        simulator = Simulator(fleet, number, single_steps=single_steps)
        simulator.run(rows)
        runs.append((simulator, simulator.records.columns()))
    assert_same(runs)
    assert runs[0][0].heap.n_events < runs[1][0].heap.n_events
    PREEMPTIONS["n"] += runs[0][0].facts()["preemptions"]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("effect", "params"),
    [
        ("nanoflow", {"dense_tokens": 4, "network_fraction": 0.5}),
        ("semi-pd", {"prefill_share": 0.7, "decode_share": 0.2}),
    ],
)
def test_runs_equal_single_iterations_whatever_way_steps_are_run(
    effect: str, params: dict[str, float], seed: int
) -> None:
    policy = POLICIES[Random(f"{seed} {effect}").randrange(len(POLICIES))]
    plain = tight(seed, policy, n_blocks=600)
    fleet = tight(seed, policy, n_blocks=600, effect=effect, effect_params=params)
    rows, runs = crowd(seed, 30, 80, 900), []
    for tried, single_steps in ((fleet, False), (fleet, True), (plain, False)):
        simulator = Simulator(tried, seed, single_steps=single_steps)
        simulator.run(rows)
        runs.append((simulator, simulator.records.columns()))
    assert_same(runs[:2])
    # And not because the effect did not reach the instances.
    assert not np.array_equal(runs[0][1].ended_s, runs[2][1].ended_s)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("rescheduling", "params"),
    [
        ("random-moves", {"period_s": 0.1, "moves": 8}),
        ("llumnix", {"period_s": 0.1}),
        ("defragment", {"period_s": 0.1}),
        ("predicted-gain", {"period_s": 0.1, "gain_s": 0.0, "hand_off_gain_s": 0.0}),
    ],
)
def test_runs_equal_single_iterations_when_sequences_move(
    rescheduling: str, params: dict[str, float], seed: int
) -> None:
    policy: dict[str, Any] = {"batching": "fcfs", "routing": "round-robin", "admission": "always"}
    policy |= {"rescheduling": rescheduling, "params": {"rescheduling": params}}
    fleet = tight(seed, policy, instances=3, n_blocks=400, max_sequences=12)
    fleet = replace(fleet, simulation={**fleet.simulation, "tick_s": 0.1119})
    rows, runs = crowd(seed, 60, 80, 900), []
    for single_steps in (False, True):
        simulator = Simulator(fleet, seed, single_steps=single_steps)
        simulator.run(rows)
        MOVES["n"] += simulator.fleet.handoffs.n_done
        runs.append((simulator, simulator.records.columns()))
    assert_same(runs)


def test_there_were_moves_enough() -> None:
    assert MOVES["n"] > 50


def test_memory_was_tight_enough_for_preemptions() -> None:
    """Else the test above would show less than it says."""
    assert PREEMPTIONS["n"] > 100


@pytest.mark.parametrize("seed", range(12))
def test_runs_equal_single_iterations_when_clients_leave_and_instances_slow_down(seed: int) -> None:
    policy = POLICIES[Random(f"{seed} policy").randrange(len(POLICIES))]
    faults = {
        "hang_up": [{"share": 0.4, "after_s": 0.4}],
        "slow": [{"at_s": 0.1, "for_s": 0.3, "factor": 2.0, "instance": "p-0"}],
    }
    runs = [
        watched(tight(seed, policy), crowd(seed, 40, 80), faults, seed=seed, single_steps=single)
        for single in (False, True)
    ]
    assert_same(runs)
