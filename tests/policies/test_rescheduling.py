"""The behaviour that each rescheduling policy claims."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.model import ConfigError, HandoffWhy, Objective, Role
from fairlead.policies.freeness import freeness
from fairlead.policies.rescheduling import Move
from fairlead.policies.rescheduling.beam import Search
from tests.policies.fakes import (
    RESCHEDULING,
    Host,
    after,
    crowd,
    host,
    host_lists,
    placed,
    running,
)
from tests.policies.fakes import build as build_any


def build(name: str, **params: Any) -> Any:
    return build_any("rescheduling", name, **params)


def routes(moves: list[Move]) -> list[str]:
    return [f"{move.request} {move.source}>{move.target}" for move in moves]


# ---------------------------------------------------------------- freeness


def test_freeness_is_what_is_left_for_each_sequence() -> None:
    assert freeness(crowd("a", 4, 160)) == (100 - 4 * 10) / 4
    assert freeness(host("a")) == 100


def test_of_those_who_wait_only_the_head_uses_what_it_will_need() -> None:
    waits = [placed("head", 320), placed("second", 320)]
    assert freeness(crowd("a", 4, 160, queue=waits)) == (100 - 40 - 20) / 5


def test_a_head_that_does_not_fit_makes_freeness_negative() -> None:
    assert freeness(crowd("a", 8, 160, queue=[placed("head", 800)])) < 0


def test_freeness_does_not_depend_on_the_size_of_a_block() -> None:
    fine = crowd("a", 4, 160, block_tokens=4, total_blocks=400)
    assert freeness(fine) == freeness(crowd("b", 4, 160))


def test_an_urgent_sequence_makes_its_instance_look_nearly_full() -> None:
    usual, urgent = running("r1", 160), running("r1", 160, priority=-1)
    assert freeness(host("a", usual)) == 90
    assert freeness(host("a", urgent)) == pytest.approx(12 - 10)


def test_what_drains_is_never_free() -> None:
    assert freeness(host("a", draining=True)) == float("-inf")


# ---------------------------------------------------------------- llumnix


def test_the_least_free_gives_to_the_freest_and_the_second_to_the_second() -> None:
    hosts = [
        crowd("worst", 9, 160),
        crowd("free", 2, 160),
        crowd("bad", 8, 160, total_blocks=90),
        crowd("freest", 1, 160),
        crowd("middle", 5, 160, total_blocks=65),
    ]
    assert routes(build("llumnix").propose(hosts, 0.0)) == ["worst0 worst>freest", "bad0 bad>free"]


def test_between_the_thresholds_nothing_moves() -> None:
    hosts = [crowd("a", 6, 160), crowd("b", 1, 160)]  # a: 40 blocks free for 6, about 6.7
    assert build("llumnix").propose(hosts, 0.0) == []
    stricter = build("llumnix", source_freeness=7.0, target_freeness=8.0)
    assert routes(stricter.propose(hosts, 0.0)) == ["a0 a>b"]
    too_full = build("llumnix", source_freeness=7.0, target_freeness=95.0)
    assert too_full.propose(hosts, 0.0) == []


@pytest.mark.parametrize(("order", "goes"), [("SR", "short"), ("LR", "long"), ("LCR", "late")])
def test_who_goes_is_a_parameter(order: str, goes: str) -> None:
    here = [
        running("long", 600, arrival_s=1.0),
        running("short", 160, arrival_s=2.0),
        running("late", 320, arrival_s=3.0),
        running("other", 480, arrival_s=0.0),
    ]
    moves = build("llumnix", order=order).propose([host("a", *here), host("b")], 5.0)
    assert routes(moves) == [f"{goes} a>b"]


def test_low_priority_goes_before_short() -> None:
    here = [running("short", 160), running("low", 1200, priority=2)]
    moves = build("llumnix", source_freeness=9.0, target_freeness=9.0).propose(
        [host("a", *here), host("b")], 0.0
    )
    assert routes(moves) == ["low a>b"]


def test_normal_work_leaves_an_instance_that_runs_urgent_work() -> None:
    hosts = [host("a", running("urgent", 160, priority=-1), running("usual", 160)), host("b")]
    assert routes(build("llumnix").propose(hosts, 0.0)) == ["usual a>b"]


def test_an_instance_that_just_preempted_gives_and_does_not_take() -> None:
    policy = build("llumnix")
    hosts = [crowd("a", 3, 160), host("b")]
    assert policy.propose(hosts, 0.0) == []
    preempted = [crowd("a", 3, 160, preemptions=1), host("b")]
    assert routes(policy.propose(preempted, 0.5)) == ["a0 a>b"]
    assert policy.propose([crowd("a", 9, 160), host("b", preemptions=1)], 9.0) == []


def test_one_hand_off_at_a_time_for_each_instance() -> None:
    assert build("llumnix").propose([crowd("a", 9, 160, n_moving=1), host("b")], 0.0) == []
    assert build("llumnix").propose([crowd("a", 9, 160), host("b", n_moving=1)], 0.0) == []


def test_a_sequence_without_room_at_the_target_stays() -> None:
    hosts = [crowd("a", 2, 720), crowd("b", 1, 160, total_blocks=50)]
    policy = build("llumnix", source_freeness=6.0, target_freeness=6.0)
    assert policy.propose(hosts, 0.0) == []


def test_balanced_moves_only_what_brings_the_two_closer() -> None:
    hosts = [crowd("a", 1, 1552), host("b", total_blocks=101)]
    assert routes(build("llumnix").propose(hosts, 0.0)) == []  # freeness is exactly 3
    for balanced, expected in ((False, ["a0 a>b"]), (True, [])):
        policy = build(
            "llumnix", balanced=balanced, source_freeness=4.0, target_freeness=4.0, high_priority=-9
        )
        assert routes(policy.propose(hosts, 0.0)) == expected


def test_what_moved_dwells_and_is_not_swapped_back() -> None:
    policy = build("llumnix", dwell_s=5.0)
    hosts = [crowd("a", 9, 160), host("b")]
    moved = policy.propose(hosts, 0.0)
    assert routes(moved) == ["a0 a>b"]
    # Now b is the full one, and a0 and whatever else is there may not go back to a.
    back = [host("a"), host("b", running("a0", 16), *(running(f"b{i}", 160) for i in range(9)))]
    assert policy.propose(back, 1.0) == []
    third = [host("c"), back[1]]
    assert routes(policy.propose(third, 1.0)) == ["b0 b>c"]
    assert routes(policy.propose(back, 5.5)) == ["a0 b>a"]


def test_everything_leaves_what_drains_whatever_the_thresholds() -> None:
    policy = build("llumnix", source_freeness=0.0, target_freeness=1e9)
    leaving = crowd("a", 3, 160, draining=True, queue=[placed("q1", 50), placed("q2", 50)])
    moves = policy.propose([leaving, host("b"), crowd("c", 1, 16)], 0.0)
    assert routes(moves) == ["q1 a>b", "q2 a>c", "a0 a>b", "a1 a>c"]
    assert {move.why for move in moves} == {HandoffWhy.DRAIN}


def test_draining_goes_on_until_nothing_is_left() -> None:
    policy = build("llumnix")
    hosts = [crowd("a", 7, 160, draining=True), host("b"), host("c")]
    for i in range(4):
        hosts = after(hosts, policy.propose(hosts, 0.5 * i))
    assert [one.running for one in hosts] == [0, 4, 3]


def test_what_drains_takes_nothing_and_roles_are_kept() -> None:
    full = crowd("a", 9, 160)
    for other in (host("b", draining=True), host("b", role=Role.PREFILL)):
        assert build("llumnix").propose([full, other], 0.0) == []
    leaving = host("a", draining=True, queue=[placed("q1", 50)])
    assert build("llumnix").propose([leaving, host("b", role=Role.DECODE)], 0.0) == []


# ---------------------------------------------------------------- hotspot

SOON = Objective("x", ttft_s=2.0)


def queue(name: str, n: int, tokens: int = 500, **fields: Any) -> list[Any]:
    return [placed(f"{name}{i}", tokens, objective=SOON, **fields) for i in range(n)]


def test_an_instance_that_keeps_its_promises_keeps_its_requests() -> None:
    assert build("hotspot").propose([host("a", queue=queue("a", 4)), host("b")], 0.0) == []


def test_those_who_would_be_late_go_until_all_that_are_left_are_in_time() -> None:
    """Six of half a second each, two seconds promised: two have to go."""
    hosts = [host("a", queue=queue("a", 6)), host("b")]
    assert routes(build("hotspot").propose(hosts, 0.0)) == ["a5 a>b", "a4 a>b"]


def test_a_request_goes_where_its_first_token_comes_soonest_the_cached_prefix_counted() -> None:
    holder = host("c", queue=queue("c", 1, 300), cached={"a5": 400})
    moves = build("hotspot").propose([host("a", queue=queue("a", 6)), host("b"), holder], 0.0)
    assert routes(moves) == ["a5 a>c", "a4 a>b"]


def test_a_move_that_would_be_late_there_too_is_not_made() -> None:
    busy = host("b", queue=queue("b", 4))
    assert build("hotspot").propose([host("a", queue=queue("a", 6)), busy], 0.0) == []


def test_what_one_round_sends_to_a_target_counts_for_the_next_of_the_round() -> None:
    hosts = [host("a", queue=queue("a", 16)), host("b")]
    moves = build("hotspot").propose(hosts, 0.0)
    assert len(moves) == 4  # Of half a second each: a fifth would be late there too.


def test_a_small_gain_is_no_reason_to_move() -> None:
    hosts = [host("a", queue=queue("a", 6)), host("b", queue=queue("b", 4, 350))]
    assert routes(build("hotspot").propose(hosts, 0.0)) == ["a5 a>b"]
    assert build("hotspot", gain_s=1.2).propose(hosts, 0.0) == []


def test_past_due_requests_are_no_hot_spot() -> None:
    assert build("hotspot").propose([host("a", queue=queue("a", 3)), host("b")], 99.0) == []


def test_a_preempted_sequence_has_its_first_token_already() -> None:
    late = [placed("a0", 5000, objective=SOON, first_token_s=0.1)]
    assert build("hotspot").propose([host("a", queue=late), host("b")], 1.0) == []


def test_requests_that_have_not_begun_go_where_prompts_are_computed() -> None:
    hot = host("a", queue=queue("a", 6))
    for other in (host("b", role=Role.DECODE), host("b", draining=True)):
        assert build("hotspot").propose([hot, other], 0.0) == []


def test_only_the_shortest_queues_are_looked_at() -> None:
    others = [host(f"b{i}", queue=[placed(f"x{i}", 10 * (9 - i))]) for i in range(9)]
    moves = build("hotspot", choices=2).propose([host("a", queue=queue("a", 8)), *others], 0.0)
    assert {move.target for move in moves} == {"b7", "b8"}


# ---------------------------------------------------------------- defragment


def fragmented(*, head: int = 640, age_s: float = 1.0) -> list[Host]:
    """Three instances with 25 to 30 blocks free each, and a request that needs 40."""
    waits = [placed("head", head, arrival_s=10.0 - age_s)]
    mine = [running("s", 80), running("m", 160), running("l", 960)]
    return [
        host("a", *mine, queue=waits),
        crowd("b", 7, 160),
        crowd("c", 7, 160, total_blocks=95),
    ]


def test_the_smallest_that_suffice_make_room_for_the_head() -> None:
    """25 blocks free, 40 needed: s and m hold 15; each goes where it fits most tightly."""
    moves = build("defragment").propose(fragmented(), 10.0)
    assert routes(moves) == ["m a>c", "s a>c"]
    assert {move.why for move in moves} == {HandoffWhy.DEFRAGMENT}
    assert build("defragment").propose(after(fragmented(), moves), 10.5) == []


def test_no_more_go_than_are_needed() -> None:
    assert routes(build("defragment").propose(fragmented(head=560), 10.0)) == ["m a>c"]
    assert routes(build("defragment").propose(fragmented(head=480), 10.0)) == ["s a>c"]


def test_nothing_moves_where_it_would_not_suffice() -> None:
    assert build("defragment").propose(fragmented(head=1600), 10.0) == []
    assert build("defragment", moves=1).propose(fragmented(), 10.0) == []


def test_a_head_that_fits_or_is_new_makes_nobody_move() -> None:
    assert build("defragment").propose(fragmented(head=400), 10.0) == []
    assert build("defragment").propose(fragmented(age_s=0.1), 10.0) == []


def test_where_another_has_the_room_in_one_piece_the_head_goes_there() -> None:
    hosts = [*fragmented(), host("d", total_blocks=50)]
    assert routes(build("defragment").propose(hosts, 10.0)) == ["head a>d"]


# ---------------------------------------------------------------- vm-rescheduling


def test_load_moves_from_the_fullest_to_the_emptiest() -> None:
    hosts = [crowd("a", 9, 160), crowd("b", 5, 160), host("c")]
    moves = build("vm-rescheduling", move_fraction=1.0).propose(hosts, 0.0)
    assert {(move.source, move.target) for move in moves} <= {("a", "c"), ("b", "c")}
    assert sorted(one.running for one in after(hosts, moves)) in ([4, 5, 5], [4, 4, 6])


def test_few_move_in_a_round_and_none_for_little() -> None:
    hosts = [crowd("a", 9, 160), host("c")]
    assert len(build("vm-rescheduling").propose(hosts, 0.0)) == 1
    even = [crowd("a", 5, 160), crowd("b", 4, 160)]
    assert build("vm-rescheduling").propose(even, 0.0) == []


def test_a_hand_off_that_costs_more_than_it_gains_is_not_made() -> None:
    hosts = [crowd("a", 9, 160), host("c")]
    assert build("vm-rescheduling", move_cost_per_s=10.0).propose(hosts, 0.0) == []


def test_a_full_batch_is_overload_too() -> None:
    hosts = [crowd("a", 16, 16), crowd("b", 2, 160, total_blocks=100)]
    assert routes(build("vm-rescheduling").propose(hosts, 0.0)) == ["a0 a>b"]


def test_a_beam_is_never_worse_than_greedy_and_bounded_by_its_evaluations() -> None:
    sizes = [700, 330, 330, 320, 310, 20, 16]
    hosts = [host("a", *(running(f"r{i}", n) for i, n in enumerate(sizes)), total_blocks=130)]
    hosts += [crowd("b", 3, 160), host("c", total_blocks=45)]
    asked: list[str] = []

    def price(one: Any, blocks: float, sequences: int) -> float:
        return float((blocks / one.total_blocks) ** 2)

    def cost(source: Any, one: Any) -> float:
        asked.append(one.request.id)
        return 0.001

    def search() -> Search:
        return Search(hosts, price, cost, lambda *_: True, slots=8)

    greedy, beam = (search().best(4, width, 2000) for width in (1, 8))
    assert beam.cost <= greedy.cost < search().start().cost
    asked.clear()
    search().best(4, 8, 30)
    assert len(asked) <= 30


def test_a_draining_instance_is_emptied_by_it_as_well() -> None:
    policy = build("vm-rescheduling", move_fraction=1.0)
    hosts = [crowd("a", 3, 16, draining=True), crowd("b", 5, 160)]
    moves = policy.propose(hosts, 0.0)
    assert [one.running for one in after(hosts, moves)] == [0, 8]
    assert {move.why for move in moves} == {HandoffWhy.DRAIN}


# ---------------------------------------------------------------- all of them

EAGER: dict[str, dict[str, Any]] = {
    "llumnix": {"source_freeness": 20.0, "target_freeness": 20.0, "slots": 2},
    "hotspot": {"ttft_s": 0.5},
    "defragment": {"patience_s": 0.0},
    "vm-rescheduling": {"move_fraction": 1.0, "evaluations": 200},
    "predicted-gain": {"gain_s": 0.0, "hand_off_gain_s": 0.0, "horizon_s": 30.0},
}
STEADY = sorted(EAGER)
"""Those that claim hysteresis."""


def test_every_policy_with_a_reason_to_move_is_in_these_tests() -> None:
    assert set(RESCHEDULING) >= set(STEADY)


@pytest.mark.parametrize("name", STEADY)
@settings(max_examples=60, deadline=None)
@given(hosts=host_lists(), rounds=st.integers(1, 4))
def test_proposals_name_nobody_twice_and_contradict_nobody(
    name: str, hosts: list[Host], rounds: int
) -> None:
    policy = build(name, **EAGER[name])
    for i in range(rounds):
        inside = {
            one.request.id: where.id
            for where in hosts
            for one in (*where.decoding, *where.queue)
            if not one.is_moving
        }
        draining = {one.id for one in hosts if one.draining}
        moves = policy.propose(hosts, 0.5 * i)
        assert len({move.request for move in moves}) == len(moves)
        pairs = {(move.source, move.target) for move in moves}
        assert not any((target, source) in pairs for source, target in pairs)
        for move in moves:
            assert inside[move.request] == move.source != move.target
            assert move.target not in draining
        hosts = after(hosts, moves)


@pytest.mark.parametrize("name", STEADY)
@settings(max_examples=40, deadline=None)
@given(hosts=host_lists())
def test_without_draining_nobody_moves_twice_within_the_dwell_time(
    name: str, hosts: list[Host]
) -> None:
    hosts = [one for one in hosts if not one.draining]
    policy = build(name, dwell_s=5.0, **EAGER[name])
    moved: list[str] = []
    for i in range(6):
        moves = policy.propose(hosts, 0.5 * i)
        moved += [move.request for move in moves]
        hosts = after(hosts, moves)
    assert len(set(moved)) == len(moved)


@pytest.mark.parametrize("name", STEADY)
def test_an_old_move_is_forgotten(name: str) -> None:
    """Whatever is kept is bounded by what a dwell time can hold."""
    policy = build(name, **{**EAGER[name], "dwell_s": 1.0})
    for i in range(300):
        waits = queue(f"q{i}-", 6, arrival_s=float(i))
        hosts = [crowd(f"a{i}", 9, 160, queue=waits, preemptions=i), host(f"b{i}")]
        policy.propose(hosts, float(i))
    dwell = policy._dwell
    assert len(dwell._requests) < 30
    assert len(dwell._pairs) < 10
    assert len(getattr(policy, "_preemptions", ())) < 10


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("llumnix", {"order": "XR"}, "order must be one of SR, LR, LCR, got 'XR'"),
        ("llumnix", {"target_freeness": 1.0}, "at least source_freeness"),
        ("hotspot", {"choices": 0}, "choices and depth must be at least 1"),
        ("defragment", {"period_s": 0}, "period_s must be positive"),
        ("vm-rescheduling", {"width": 0}, "width, evaluations, moves and slots"),
        ("vm-rescheduling", {"full": 2.0}, "full must be above 0 and at most 1"),
    ],
)
def test_bad_parameters_say_what_they_should_be(
    name: str, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build(name, **params)
