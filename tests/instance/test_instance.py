"""The Instance state machine, driven by hand and by hypothesis."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.instance import Instance
from fairlead.model import (
    Finished,
    FinishReason,
    Preempted,
    RefuseWhy,
    Request,
    RequestId,
    RowKind,
    Step,
    StepResult,
    StepShape,
    Tokens,
)
from tests.strategies import BATCHING, instance, request, request_lists


def token(id: RequestId, position: int) -> int:
    """What the pretended model says at an output position."""
    return (sum(map(ord, id)) * 31 + position * 7919) % 1000


def result(inst: Instance, step: Step, n_done: int = 1) -> StepResult:
    tokens = {}
    for row in step.rows:
        if row.samples:
            at = inst.sequences[row.request].n_produced
            tokens[row.request] = [token(row.request, at + j) for j in range(n_done)]
    return StepResult(tokens, n_done)


def check(inst: Instance) -> None:
    """Invariant 3, and that every block of every sequence is really its own or shared."""
    inst.check_invariants()


def run(inst: Instance, now: float = 0.0, single: bool = True) -> tuple[list[Any], float]:
    """Runs until nothing is left; returns all events and the time."""
    events: list[Any] = []
    while (step := inst.plan(now)) is not None:
        n = 1 if single else step.repeat
        shape = StepShape.of(step.rows)
        assert step.seconds() == inst.latency.step_s(shape)
        now += step.seconds(n)
        events += inst.commit(step, result(inst, step, n), now)
        check(inst)
    return events, now


def outputs(events: list[Any]) -> dict[str, list[int]]:
    texts: dict[str, list[int]] = {}
    for event in events:
        if isinstance(event, Tokens):
            for row in event.rows:
                assert row.start == len(texts.get(row.request, [])), "a position was skipped"
                texts.setdefault(row.request, []).extend(row.token_ids)
    return texts


def test_a_request_is_prefilled_then_decoded_to_its_length() -> None:
    inst = instance()
    assert inst.submit(request("r1", prompt=10, out=3), 0.0) is None
    step = inst.plan(0.0)
    assert step is not None
    (row,) = step.rows
    assert (row.kind, row.start, row.n, row.samples) == (RowKind.PREFILL, 0, 10, True)
    inst.commit(step, result(inst, step), 0.1)
    step = inst.plan(0.1)
    assert step is not None
    assert (step.rows[0].kind, step.rows[0].start, step.repeat) == (RowKind.DECODE, 10, 2)
    events = inst.commit(step, result(inst, step, 2), 0.2)
    assert [type(event) for event in events] == [Tokens, Finished]
    assert events[1].reason is FinishReason.LENGTH
    assert inst.plan(0.2) is None
    assert inst.planner.pool.n_used == 0


def test_a_long_prompt_is_cut_to_the_budget() -> None:
    inst = instance(params={"step_tokens": 16})
    inst.submit(request("r1", prompt=40, out=1), 0.0)
    chunks = []
    while (step := inst.plan(0.0)) is not None:
        chunks += [(row.start, row.n, row.samples) for row in step.rows]
        inst.commit(step, result(inst, step), 0.0)
    assert chunks == [(0, 16, False), (16, 16, False), (32, 8, True)]


def test_a_cached_prefix_is_not_computed_again() -> None:
    inst = instance()
    prompt = list(range(21))
    inst.submit(request("r1", prompt, 1), 0.0)
    run(inst)
    inst.submit(request("r2", prompt, 1), 0.0)
    step = inst.plan(0.0)
    assert step is not None
    assert (step.rows[0].start, step.rows[0].n) == (20, 1)
    events = inst.commit(step, result(inst, step), 0.0)
    assert events[-1].cached_tokens == 20


def test_a_full_hit_still_computes_the_last_block() -> None:
    """The last token must be computed to know what follows it."""
    inst = instance()
    prompt = list(range(20))
    inst.submit(request("r1", prompt, 1), 0.0)
    run(inst)
    inst.submit(request("r2", prompt, 1), 0.0)
    step = inst.plan(0.0)
    assert step is not None
    assert (step.rows[0].start, step.rows[0].n) == (16, 4)


def test_generated_blocks_are_found_by_the_next_turn() -> None:
    inst = instance()
    first = request("r1", prompt=10, out=11)
    inst.submit(first, 0.0)
    events, _ = run(inst)
    follow = [*first.token_ids, *outputs(events)["r1"], 1, 2, 3]
    inst.submit(request("r2", follow, 1), 0.0)
    step = inst.plan(0.0)
    assert step is not None
    assert step.rows[0].start == 20  # 10 + 10 computed tokens: five full blocks


def test_when_memory_runs_out_the_last_admitted_gives_way_and_finishes_later() -> None:
    inst = instance(n_blocks=8)  # 32 tokens
    inst.submit(request("r1", prompt=12, out=12), 0.0)
    inst.submit(request("r2", prompt=12, out=12), 0.0)
    events, _ = run(inst)
    assert [event.request for event in events if isinstance(event, Preempted)] == ["r2"]
    texts = outputs(events)
    assert texts == {id: [token(RequestId(id), i) for i in range(12)] for id in ("r1", "r2")}


def test_an_aborted_sequence_frees_its_blocks_even_while_a_step_runs() -> None:
    inst = instance()
    inst.submit(request("r1"), 0.0)
    inst.submit(request("r2"), 0.0)
    step = inst.plan(0.0)
    assert step is not None
    brought = result(inst, step)
    assert inst.abort(RequestId("r1"), 0.0)
    (tokens,) = inst.commit(step, brought, 0.1)
    assert [row.request for row in tokens.rows] == ["r2"]
    assert not inst.abort(RequestId("r1"), 0.1)
    check(inst)


def test_an_abort_of_another_attempt_is_ignored() -> None:
    inst = instance()
    inst.submit(request("r1"), 0.0, attempt=2)
    assert not inst.abort(RequestId("r1"), 0.0, attempt=1)
    assert inst.abort(RequestId("r1"), 0.0, attempt=2)


def test_what_can_never_fit_is_refused() -> None:
    inst = instance(n_blocks=8)
    assert inst.submit(request("r1", prompt=30, out=4), 0.0) is RefuseWhy.TOO_LONG
    assert inst.submit(request("r2", prompt=30, out=3), 0.0) is None


def test_a_full_queue_refuses_but_not_those_that_come_mid_stream() -> None:
    inst = instance(max_waiting=1, max_sequences=1)
    assert inst.submit(request("r1"), 0.0) is None
    assert inst.submit(request("r2"), 0.0) is RefuseWhy.QUEUE_FULL
    assert inst.submit(request("r3"), 0.0, attempt=2, produced=[1]) is None


def test_a_resumed_request_goes_on_at_its_next_position() -> None:
    inst = instance()
    inst.submit(request("r1", prompt=10, out=6), 0.0, attempt=2, produced=[7, 8, 9])
    events, _ = run(inst)
    rows = [row for event in events if isinstance(event, Tokens) for row in event.rows]
    assert [(row.attempt, row.start) for row in rows] == [(2, 3), (2, 4), (2, 5)]


def test_a_doubled_submit_changes_nothing() -> None:
    inst = instance()
    inst.submit(request("r1"), 0.0)
    assert inst.submit(request("r1"), 0.0) is None
    assert len(inst.sequences) == 1


def test_a_sequence_moves_with_its_kv_and_is_not_prefilled_again() -> None:
    a, b = instance(), instance(id="b")
    a.submit(request("r1", prompt=10, out=6), 0.0)
    first: list[Any] = []
    for _ in range(3):
        step = a.plan(0.0)
        assert step is not None
        first += a.commit(step, result(a, step), 0.0)
    exported = a.freeze(RequestId("r1"), 0.0)
    assert a.plan(0.0) is None
    assert b.reserve(exported.request, 2, exported.n_computed, 0.0) == 0
    assert b.adopt(exported, 2, 0.0)
    a.abort(RequestId("r1"), 0.0)
    assert a.planner.pool.n_used == 0
    step = b.plan(0.0)
    assert step is not None
    assert (step.rows[0].kind, step.rows[0].start) == (RowKind.DECODE, 12)
    rest, _ = run(b)
    assert outputs(first + rest)["r1"] == [token(RequestId("r1"), i) for i in range(6)]


def a_decoding(n_blocks: int = 16) -> Any:
    inst = instance(n_blocks=n_blocks)
    inst.submit(request("r1", prompt=10, out=6), 0.0)
    step = inst.plan(0.0)
    assert step is not None
    inst.commit(step, result(inst, step), 0.0)
    return inst


def test_reserving_is_refused_where_there_is_no_room() -> None:
    a, b = a_decoding(), instance(id="b", n_blocks=4)
    b.submit(request("r0", prompt=10, out=4), 0.0)
    b.plan(0.0)
    exported = a.freeze(RequestId("r1"), 0.0)
    assert b.reserve(exported.request, 2, 10, 0.0) is RefuseWhy.QUEUE_FULL
    assert not b.adopt(exported, 2, 0.0)
    assert list(b.sequences) == ["r0"]


def test_what_was_reserved_is_held_and_shown_until_it_is_dropped() -> None:
    a, b = a_decoding(), instance(id="b")
    exported = a.freeze(RequestId("r1"), 0.0)
    b.reserve(exported.request, 2, 10, 0.0)
    before = b.planner.pool.n_used
    b.reserve(exported.request, 2, 20, 0.0)
    assert b.planner.pool.n_used > before > 0
    assert b.report(0.0).requests == (("r1", 2),)
    b.check_invariants()
    assert not b.abort(RequestId("r1"), 0.0, 1)
    assert b.abort(RequestId("r1"), 0.0, 2)
    assert b.planner.pool.n_used == 0
    assert not b.adopt(exported, 2, 0.0)


def test_a_frozen_sequence_that_thaws_goes_on_where_it_was() -> None:
    a = a_decoding()
    a.freeze(RequestId("r1"), 0.0)
    a.check_invariants()
    assert a.plan(0.0) is None
    a.thaw(RequestId("r1"), 0.0)
    step = a.plan(0.0)
    assert step is not None
    assert (step.rows[0].kind, step.rows[0].start) == (RowKind.DECODE, 10)
    a.commit(step, result(a, step), 0.0)
    a.check_invariants()


def test_a_report_tells_load_and_what_came_into_the_cache() -> None:
    inst = instance()
    inst.submit(request("r1", prompt=10, out=3), 0.0)
    report = inst.report(0.0)
    assert (report.running, report.waiting, report.queued_tokens) == (0, 1, 10)
    assert report.requests == (("r1", 1),)
    run(inst)
    report = inst.report(1.0)
    assert (report.running, report.waiting, report.queued_tokens) == (0, 0, 0)
    assert len(report.stored) == 3
    assert inst.report(1.0).stored == ()
    assert len(inst.report(1.0, whole_cache=True).stored) == 3


def test_reports_number_what_they_tell_of_the_cache() -> None:
    """So that whoever misses one knows."""
    inst = instance()
    assert inst.report(0.0).cache_events == 0
    inst.submit(request("r1", prompt=10, out=3), 0.0)
    run(inst)
    assert inst.report(1.0).cache_events == 3
    inst.submit(request("r2", prompt=10, out=3), 1.0)
    run(inst)
    whole = inst.report(2.0, whole_cache=True)
    assert whole.whole_cache
    assert (whole.cache_events, len(whole.stored), whole.evicted) == (6, 6, ())
    after = inst.report(3.0)
    assert (after.whole_cache, after.cache_events, after.stored) == (False, 6, ())


@pytest.mark.parametrize("batching", BATCHING)
@given(requests=request_lists(), blocks=st.integers(26, 40))
@settings(max_examples=40, deadline=None)
def test_n_repeated_iterations_equal_n_single_ones(
    batching: str, requests: list[Request], blocks: int
) -> None:
    """Token for token and event for event, and within 1e-9 in time."""
    ends = []
    for single in (True, False):
        inst = instance(batching, n_blocks=blocks, max_sequences=4)
        for one in requests:
            assert inst.submit(one, 0.0) is None
        events, now = run(inst, single=single)
        kept = [event for event in events if not isinstance(event, Tokens)]
        ends.append((outputs(events), kept, set(inst.planner.pool.names()), now))
    assert ends[0][:3] == ends[1][:3]
    assert ends[0][3] == pytest.approx(ends[1][3], abs=1e-9, rel=1e-9)


@pytest.mark.parametrize("batching", BATCHING)
@given(data=st.data(), requests=request_lists())
@settings(max_examples=40, deadline=None)
def test_whatever_happens_blocks_are_conserved_and_all_end(
    batching: str, data: st.DataObject, requests: list[Request]
) -> None:
    """Random submits, aborts (also amid a step), partial runs; then everyone finishes."""
    inst = instance(batching, n_blocks=28, max_sequences=4)
    events: list[Any] = []
    todo, aborted, now = list(requests), set(), 0.0
    for _ in range(data.draw(st.integers(1, 40))):
        what = data.draw(st.sampled_from(["submit", "abort", "step", "step", "step"]))
        now += 0.01
        if what == "submit" and todo:
            assert inst.submit(todo.pop(0), now) is None
        elif what == "abort" and inst.sequences:
            victim = data.draw(st.sampled_from(sorted(inst.sequences)))
            aborted.add(victim)
            inst.abort(victim, now)
        elif what == "step" and (step := inst.plan(now)) is not None:
            brought = result(inst, step, data.draw(st.integers(1, step.repeat)))
            if data.draw(st.booleans()) and inst.sequences:
                victim = data.draw(st.sampled_from(sorted(inst.sequences)))
                aborted.add(victim)
                inst.abort(victim, now)
            events += inst.commit(step, brought, now)
        check(inst)
    for one in todo:
        assert inst.submit(one, now) is None
    rest, _ = run(inst, now)
    events += rest
    finished = [event.request for event in events if isinstance(event, Finished)]
    assert sorted(finished + sorted(aborted)) == sorted(one.id for one in requests)
    assert inst.planner.pool.n_used == 0
    assert not inst.sequences
    texts = outputs(events)
    for id, text in texts.items():
        assert text == [token(RequestId(id), i) for i in range(len(text))]
