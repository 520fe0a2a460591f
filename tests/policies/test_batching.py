"""The behaviour that each batching policy claims, on a real Instance."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.instance import Instance
from fairlead.model import Finished, Objective, Preempted, RowKind, Step
from tests.instance.test_instance import result, run
from tests.strategies import instance, request


def next_step(inst: Instance, now: float = 0.0) -> Step:
    step = inst.plan(now)
    assert step is not None
    return step


def do(inst: Instance, now: float = 0.0) -> list[tuple[str, str, int]]:
    """Runs one step; returns its rows."""
    step = next_step(inst, now)
    inst.commit(step, result(inst, step), now)
    return [(row.request, row.kind.value, row.n) for row in step.rows]


def test_fcfs_fills_the_budget_in_order_and_the_head_of_the_line_is_not_overtaken() -> None:
    inst = instance("fcfs", {"step_tokens": 30}, n_blocks=64)
    for i, prompt in enumerate([20, 20, 5]):
        inst.submit(request(f"r{i}", prompt), 0.0)
    assert do(inst) == [("r0", "prefill", 20), ("r1", "prefill", 10)]
    assert do(inst) == [("r0", "decode", 1), ("r1", "prefill", 10), ("r2", "prefill", 5)]


def test_fcfs_lets_a_long_prompt_stall_decodes_where_sarathi_does_not() -> None:
    """Sarathi-Serve, figure 1: the step that a decode shares stays short."""
    longest = {}
    for name, params in (("fcfs", {"step_tokens": 2048}), ("sarathi", {"chunk_tokens": 64})):
        inst = instance(name, params, n_blocks=400, max_context=2000)
        inst.submit(request("short", 8, out=40), 0.0)
        do(inst)
        inst.submit(request("long", 1000, out=2), 0.0)
        longest[name] = max(
            step.first_s
            for step in iter_steps(inst)
            if any(row.kind is RowKind.DECODE for row in step.rows)
        )
    assert longest["sarathi"] < longest["fcfs"] / 5


def iter_steps(inst: Instance, now: float = 0.0) -> Any:
    while (step := inst.plan(now)) is not None:
        yield step
        inst.commit(step, result(inst, step), now)


def test_sarathi_runs_decodes_first_then_unfinished_prefills_then_newcomers() -> None:
    inst = instance("sarathi", {"chunk_tokens": 20}, n_blocks=100)
    inst.submit(request("r0", 8, out=9), 0.0)
    do(inst)
    inst.submit(request("r1", 30), 0.0)
    inst.submit(request("r2", 10), 0.0)
    assert do(inst) == [("r0", "decode", 1), ("r1", "prefill", 19)]
    assert do(inst) == [("r0", "decode", 1), ("r1", "prefill", 11), ("r2", "prefill", 8)]


def test_sarathi_admits_only_whole_prompts_where_fcfs_admits_a_first_chunk() -> None:
    for name, admitted in (("fcfs", 2), ("sarathi", 1)):
        params: dict[str, Any] = {"chunk_tokens": 50}
        if name == "fcfs":
            params = {"step_tokens": 50, "whole_prompt": False}
        inst = instance(name, params, n_blocks=16)  # 64 tokens
        inst.submit(request("r0", 40, out=2), 0.0)
        inst.submit(request("r1", 40, out=2), 0.0)
        assert len(next_step(inst).rows) == admitted


def evictions(name: str, params: dict[str, Any]) -> tuple[int, float]:
    """Preemptions and finish time of twelve requests whose outputs need twice the memory."""
    inst = instance(name, params, n_blocks=60, max_sequences=32)
    for i in range(12):
        inst.submit(request(f"r{i}", prompt=12, out=28), 0.0)
    events, now = run(inst)
    assert sum(isinstance(event, Finished) for event in events) == 12
    return sum(isinstance(event, Preempted) for event in events), now


def test_past_future_evicts_less_than_an_admission_that_looks_only_at_now() -> None:
    """Past-Future: looking at the future peak removes the evictions of aggressive admission."""
    aggressive, _ = evictions("fcfs", {})
    careful, _ = evictions("past-future", {"initial_tokens": 28, "reserve": 0.0})
    assert aggressive > 0
    assert careful == 0


def test_past_future_admits_more_than_reserving_the_longest_output() -> None:
    """Knowing that answers are short fills the batch that max_tokens alone leaves empty."""
    sizes = {}
    for guess in (4, 1000):
        inst = instance(
            "past-future", {"initial_tokens": guess, "reserve": 0.0}, n_blocks=60, max_sequences=32
        )
        for i in range(12):
            inst.submit(request(f"r{i}", prompt=12, out=100), 0.0)
        sizes[guess] = len(next_step(inst).rows)
    assert sizes[4] > 2 * sizes[1000]


def test_slack_serves_the_tighter_promise_first_and_the_hopeless_last() -> None:
    inst = instance("slack", {"max_step_tokens": 40, "min_chunk_tokens": 40}, n_blocks=200)
    promises = {"batch": None, "late": 0.001, "loose": 5.0, "tight": 0.5}
    for name, ttft_s in promises.items():
        inst.submit(request(name, 40, out=1, objective=Objective("x", ttft_s=ttft_s)), 0.0)
    assert [do(inst)[0][0] for _ in range(4)] == ["tight", "loose", "late", "batch"]


def test_slack_takes_only_as_much_prefill_as_the_running_decodes_can_spare() -> None:
    objective = Objective("x", ttft_s=5.0, tpot_s=0.02)
    inst = instance("slack", {"min_chunk_tokens": 16}, n_blocks=400, max_context=2000)
    inst.submit(request("r0", 8, out=40, objective=objective), 0.0)
    do(inst)
    inst.submit(request("r1", 1000, out=2), 0.0)
    step = next_step(inst)
    (chunk,) = [row.n for row in step.rows if row.kind is RowKind.PREFILL]
    assert 16 <= chunk < 200
    assert step.first_s <= 0.8 * 0.02 + 1e-9


def test_slack_lets_nobody_in_who_would_break_the_pace_of_the_others() -> None:
    """Ten sequences at 6 ms a step: with a promise of 7 ms each, only some may decode at once."""
    sizes = {}
    for tpot_s in (0.5, 0.0068):
        inst = instance("slack", {}, n_blocks=400, max_sequences=32)
        promise = Objective("x", ttft_s=60.0, tpot_s=tpot_s)
        for i in range(10):
            inst.submit(request(f"r{i}", 8, out=40, objective=promise), 0.0)
        sizes[tpot_s] = len(next_step(inst).rows)
    assert sizes[0.5] == 10
    assert 1 <= sizes[0.0068] < 10


def test_slack_without_promises_fills_its_step() -> None:
    inst = instance("slack", {"max_step_tokens": 512}, n_blocks=400, max_context=2000)
    inst.submit(request("r0", 8, out=40), 0.0)
    do(inst)
    inst.submit(request("r1", 1000, out=2), 0.0)
    assert sum(row.n for row in next_step(inst).rows) == 512


def test_slack_preempts_batch_work_before_anything_promised() -> None:
    inst = instance("slack", {}, n_blocks=14, max_sequences=8)
    promised = Objective("x", ttft_s=60.0, tpot_s=1.0)
    inst.submit(request("batch", 12, out=30), 0.0)
    inst.submit(request("promised", 12, out=30, objective=promised), 0.0)
    # Make both enter whatever the guesses about their lengths.
    inst.planner.batching.admission.admit = lambda *_: True  # type: ignore[method-assign]
    events, _ = run(inst)
    victims = {event.request for event in events if isinstance(event, Preempted)}
    assert victims == {"batch"}


@pytest.mark.parametrize("name", ["fcfs", "sarathi", "past-future", "slack"])
def test_nothing_idles_while_fitting_work_waits(name: str) -> None:
    """Invariant 7, at its edge: one request that needs nearly all memory, on an empty instance."""
    inst = instance(name, n_blocks=16)
    inst.submit(request("r0", 60, out=4), 0.0)
    assert next_step(inst).rows
