"""Whoever falls behind next is found without asking everybody."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fairlead.instance import Instance
from fairlead.model import Objective, RequestId, StepResult
from tests.strategies import instance, request

OBJECTIVES = (
    Objective("brisk", ttft_s=1.0, tpot_s=0.006),
    Objective("calm", ttft_s=1.0, tpot_s=0.02),
    Objective("both", tpot_s=0.02, deadline_s=1.0),
    Objective("task", deadline_s=1.0),
    Objective("batch"),
)


def next_due_s(inst: Instance, now: float) -> float:
    """The same, of everybody."""
    dues_s = []
    for one in inst.planner.decoding.members:
        if one.objective.tpot_s is not None and one.first_token_s is not None:
            dues_s.append(one.first_token_s + one.n_produced * one.objective.tpot_s)
    return min((due_s for due_s in dues_s if due_s > now), default=float("inf"))


def check(inst: Instance, now: float) -> None:
    inst.check_invariants()
    planner = inst.planner
    for at_s in (0.0, now - 0.02, now, now + 0.01):
        assert abs(planner.next_due_s(at_s) - next_due_s(inst, at_s)) < 1e-9 or (
            planner.next_due_s(at_s) == next_due_s(inst, at_s) == float("inf")
        )
    tasks = [one for one in planner.decoding.members if one.objective.name == "task"]
    assert planner.decode_deadlines == tasks
    paces_s = [one.objective.tpot_s for one in planner.running if one.objective.tpot_s]
    assert planner.most_tokens == sum(s.prompt_tokens + s.max_tokens for s in planner.running)
    assert planner.tightest_pace_s == min(paces_s, default=None)


@given(st.data())
def test_the_next_to_fall_behind_is_the_least_of_all(data: st.DataObject) -> None:
    inst, now = instance("fcfs", {}, n_blocks=40, max_sequences=12), 0.0
    for i in range(40):
        if data.draw(st.booleans()):
            objective = data.draw(st.sampled_from(OBJECTIVES))
            out = data.draw(st.integers(1, 20))
            inst.submit(request(f"r{i}", 4, out, arrival_s=now, objective=objective), now)
        if data.draw(st.integers(0, 9)) == 0:
            inst.abort(RequestId(f"r{data.draw(st.integers(0, i))}"), now)
        step = inst.plan(now)
        check(inst, now)
        if step is not None:
            n = data.draw(st.integers(1, step.repeat))
            now += step.seconds(n)
            inst.commit(step, StepResult(None, n), now)
            check(inst, now)
