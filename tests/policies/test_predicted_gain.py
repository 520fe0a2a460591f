"""Our own rescheduling policy: what it moves, what it leaves, and what that brings."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.model import ConfigError, HandoffWhy, Objective, Role
from fairlead.policies.rescheduling import Move
from fairlead.simulate import simulate
from tests.papers import test_llumnix
from tests.policies.fakes import build, crowd, host, placed, running

SOON = Objective("x", ttft_s=2.0)
BATCH = Objective("batch")


def policy(**params: Any) -> Any:
    return build("rescheduling", "predicted-gain", **params)


def routes(moves: list[Move]) -> list[str]:
    return sorted(f"{move.request} {move.source}>{move.target}" for move in moves)


def queue(name: str, n: int, tokens: int = 500, **fields: Any) -> list[Any]:
    fields.setdefault("objective", SOON)
    return [placed(f"{name}{i}", tokens, **fields) for i in range(n)]


# ---------------------------------------------------------------- requests that wait


def test_what_is_in_time_where_it_is_stays() -> None:
    assert policy().propose([host("a", queue=queue("a", 3, 400)), host("b")], 0.0) == []


def test_what_would_be_late_goes_where_it_is_in_time() -> None:
    """Five of half a second each: the last would have its token after two and a half."""
    hosts = [host("a", queue=queue("a", 5)), host("b", queue=queue("b", 2)), host("c")]
    assert routes(policy().propose(hosts, 0.0)) == ["a4 a>c"]


def test_what_moved_before_makes_the_queue_shorter_here_and_longer_there() -> None:
    hosts = [host("a", queue=queue("a", 12)), host("b")]
    moves = policy().propose(hosts, 0.0)
    # A third would find two before it there, and not be in time any more.
    assert len(moves) == 2


def test_what_is_late_there_too_stays() -> None:
    busy = host("b", queue=queue("b", 4))
    assert policy().propose([host("a", queue=queue("a", 6)), busy], 0.0) == []


def test_what_is_past_due_stays() -> None:
    assert policy().propose([host("a", queue=queue("a", 6)), host("b")], 99.0) == []


def test_a_promise_is_not_worth_more_waiting_than_it_costs_the_others() -> None:
    """Half a second for a prompt, times twelve who decode there, and none here."""
    hosts = [host("a", queue=queue("a", 5)), crowd("b", 12, 16)]
    assert policy(promise_s=4.0).propose(hosts, 0.0) == []
    assert routes(policy(promise_s=6.0).propose(hosts, 0.0)) == ["a4 a>b"]


def test_what_they_here_are_spared_does_not_count() -> None:
    here = crowd("a", 12, 16, queue=queue("a", 5), total_blocks=500)
    assert policy(promise_s=4.0).propose([here, crowd("b", 12, 16)], 0.0) == []


def test_paces_that_it_breaks_there_count_as_promises_too() -> None:
    """What is late moves to where one waits for little, but not where it breaks two paces."""
    late = host("a", queue=queue("a", 5))
    paced = Objective("x", ttft_s=2.0, tpot_s=0.05)
    assert routes(policy().propose([late, host("b", queue=queue("b", 1, 100))], 0.0)) != []
    there = host("b", queue=queue("b", 2, 100, objective=paced))
    assert policy().propose([late, there], 0.0) == []


def test_a_cached_prefix_there_is_worth_its_seconds() -> None:
    holder = crowd("c", 3, 16, cached={"a4": 450})
    others = [crowd("b", 3, 16), holder]
    moves = policy().propose([host("a", queue=queue("a", 5)), *others], 0.0)
    assert routes(moves) == ["a4 a>c"]


def test_who_has_only_a_deadline_stays() -> None:
    """It goes first where it is when it is due."""
    task = Objective("task", deadline_s=2.0)
    hosts = [host("a", queue=queue("a", 6, objective=task)), host("b")]
    assert policy().propose(hosts, 0.0) == []


def test_batch_work_moves_for_seconds_alone() -> None:
    hosts = [host("a", queue=queue("a", 3, objective=BATCH)), host("b")]
    assert routes(policy().propose(hosts, 0.0)) == ["a2 a>b"]
    assert policy(gain_s=5.0).propose(hosts, 0.0) == []


def test_batch_work_moves_to_no_one_who_was_promised_a_time() -> None:
    late = host("a", queue=queue("a", 3, objective=BATCH))
    there = host("b", running("x", 16, objective=SOON))
    assert policy().propose([late, there], 0.0) == []
    assert routes(policy().propose([late, host("b", running("x", 16))], 0.0)) != []


def test_a_preempted_sequence_goes_on_where_that_is_sooner() -> None:
    waits = queue("a", 4, first_token_s=0.1, objective=BATCH)
    assert routes(policy().propose([host("a", queue=waits), host("b")], 9.0)) != []


def test_targets_begin_requests_and_have_seats() -> None:
    late = host("a", queue=queue("a", 6))
    for other in (
        host("b", role=Role.DECODE),
        host("b", draining=True),
        crowd("b", 4, 16, max_sequences=4),
    ):
        assert policy().propose([late, other], 0.0) == []


# ---------------------------------------------------------------- sequences that decode


def short_of_memory(**fields: Any) -> Any:
    """10 of 100 blocks free, and somebody waits for 20."""
    return crowd("a", 9, 160, queue=[placed("q", 320)], **fields)


def test_a_sequence_leaves_where_others_wait_for_its_memory() -> None:
    alike = crowd("b", 7, 16)
    moves = policy(gain_s=99.0).propose([short_of_memory(), alike], 0.0)
    assert len(moves) == 0  # All it saves is a few tenths of a second:
    eager = policy(gain_s=99.0, hand_off_gain_s=0.1)
    (move,) = eager.propose([short_of_memory(), alike], 0.0)
    assert (move.source, move.target, move.why) == ("a", "b", HandoffWhy.REBALANCE)
    assert move.request != "q"


def test_the_longer_they_would_wait_the_sooner_it_leaves() -> None:
    slow = short_of_memory(tpot_s_per_sequence=0.02)
    assert len(policy(gain_s=99.0).propose([slow, host("b")], 0.0)) == 1


def test_a_longer_step_for_many_there_is_no_less_than_a_shorter_one_for_few_here() -> None:
    """A sequence more costs every step a millisecond here and there, for a hundred tokens."""
    eager = policy(gain_s=99.0, hand_off_gain_s=0.0)
    for n, moves in ((4, 1), (14, 0)):
        there = crowd("b", n, 16, total_blocks=500)
        assert len(eager.propose([short_of_memory(), there], 0.0)) == moves


def test_where_memory_is_left_nobody_is_handed_off() -> None:
    roomy = crowd("a", 9, 160, tpot_s_per_sequence=0.02, total_blocks=300)
    assert policy(hand_off_gain_s=0.0).propose([roomy, host("b")], 0.0) == []


def test_nobody_is_handed_off_to_where_memory_gets_short_by_it() -> None:
    eager = policy(gain_s=99.0, hand_off_gain_s=0.0)
    for other in (
        crowd("b", 8, 160),
        host("b", role=Role.PREFILL),
        host("b", n_moving=4),
        host("b", queue=[placed("w", 16)]),
    ):
        assert eager.propose([short_of_memory(), other], 0.0) == []


def test_one_hand_off_from_each_and_to_each_in_a_round() -> None:
    eager = policy(gain_s=99.0, hand_off_gain_s=0.0)
    others = [crowd("c", 9, 160, queue=[placed("w", 480)]), host("b"), host("d", total_blocks=90)]
    moves = eager.propose([short_of_memory(), *others], 0.0)
    assert {(move.source, move.target) for move in moves} == {("c", "b"), ("a", "d")}


def test_a_hand_off_has_to_gain_more_than_it_takes() -> None:
    """A millisecond for each token here: a sequence of 160 takes longer than it saves."""
    short = crowd("a", 1, 1440, queue=[placed("q", 320)])
    assert policy(gain_s=99.0, hand_off_gain_s=0.0).propose([short, host("b")], 0.0) == []


def test_what_falls_behind_its_pace_stays() -> None:
    paced = Objective("x", ttft_s=1.0, tpot_s=0.001)
    here = [running(f"a{i}", 16, objective=paced) for i in range(9)]
    assert policy().propose([host("a", *here), host("b")], 5.0) == []


# ---------------------------------------------------------------- both


def test_everything_leaves_what_drains() -> None:
    leaving = crowd("a", 2, 160, draining=True, queue=[placed("q", 50)])
    moves = policy().propose([leaving, host("b"), host("c")], 0.0)
    assert {move.request for move in moves} == {"q", "a0", "a1"}
    assert {move.why for move in moves} == {HandoffWhy.DRAIN}


def test_what_moved_dwells() -> None:
    twice = policy(dwell_s=5.0)
    hosts = [host("a", queue=queue("a", 5, arrival_s=0.0)), host("b")]
    assert routes(twice.propose(hosts, 0.0)) == ["a4 a>b"]
    back = [host("a"), host("b", queue=queue("a", 5, arrival_s=1.0))]
    assert twice.propose(back, 1.0) == []
    later = [host("a"), host("b", queue=queue("a", 5, arrival_s=6.0))]
    assert routes(twice.propose(later, 6.0)) == ["a4 b>a"]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"period_s": 0}, "period_s must be positive"),
        ({"spare": 1.5}, "spare must be above 0 and at most 1"),
        ({"choices": 0}, "choices, depth, looks and slots must be at least 1"),
        ({"promise_s": -1.0}, "promise_s, horizon_s and dwell_s must be at least 0"),
        ({"gain_s": -0.1}, "gain_s and hand_off_gain_s must be at least 0"),
    ],
)
def test_bad_parameters_say_what_they_should_be(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        policy(**params)


# ---------------------------------------------------------------- what it brings


def test_bursts_of_uneven_lengths_wait_less_at_the_tail_for_few_moves() -> None:
    """On Llumnix' traffic, where nobody is promised anything and memory is short."""
    seeds = (1, 2)

    def p99_s(rescheduling: str) -> float:
        fleet = test_llumnix.fleet(rescheduling)
        runs = [simulate(fleet, test_llumnix.rows(seed), seed=seed).summary for seed in seeds]
        assert all((run.facts.handoffs or 0) < 50 for run in runs)
        return sum(run.ttft_s.p99 or 0.0 for run in runs)

    assert p99_s("predicted-gain") < 0.5 * p99_s("none")
