"""The behaviour that each routing policy claims."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from fairlead.model import Objective
from fairlead.policies import registry
from tests.policies.test_conformance import View, view
from tests.strategies import request


def first(policy: Any, views: list[View], **fields: Any) -> str:
    return str(policy.rank(request(**fields), views, 0.0)[0].id)


def build(name: str, **params: Any) -> Any:
    return registry.build("routing", name, params, Random(3))


def test_round_robin_takes_turns_whatever_the_load() -> None:
    policy, views = build("round-robin"), [view("a", running=99), view("b"), view("c")]
    assert [first(policy, views) for _ in range(4)] == ["a", "b", "c", "a"]


def test_least_load_counts_what_waits_as_well_as_what_runs() -> None:
    assert first(build("least-load"), [view("a", running=3), view("b", waiting=2)]) == "b"
    tied = [view("a", running=1, queued_tokens=50), view("b", running=1, queued_tokens=40)]
    assert first(build("least-load"), tied) == "b"


def test_two_choices_is_never_the_worst_of_three() -> None:
    policy = build("two-choices")
    views = [view("a", ttft_s=0.1), view("b", ttft_s=0.2), view("c", ttft_s=0.3)]
    chosen = [first(policy, views) for _ in range(300)]
    assert "c" not in chosen
    assert 0.55 < chosen.count("a") / 300 < 0.78  # two thirds of the pairs hold the best


def test_two_choices_among_all_is_the_best_of_all() -> None:
    views = [view(name, ttft_s=0.1 * i) for i, name in enumerate("dcba")]
    assert {first(build("two-choices", choices=9), views) for _ in range(20)} == {"d"}


def test_prefix_load_takes_the_shorter_time_to_the_last_token() -> None:
    assert first(build("prefix-load"), [view("a", e2e_s=2.0), view("b", e2e_s=1.0)]) == "b"


def test_prefix_load_keeps_the_promised_first_token_before_anything_else() -> None:
    views = [view("a", ttft_s=0.9, e2e_s=1.0), view("b", ttft_s=0.2, e2e_s=2.0)]
    assert first(build("prefix-load"), views, objective=Objective("x", ttft_s=1.0)) == "b"


def test_prefix_load_spares_those_who_decode() -> None:
    views = [view("a", running=10, others_s=1.0, e2e_s=1.0), view("b", others_s=1.0, e2e_s=3.0)]
    assert first(build("prefix-load"), views) == "b"
    assert first(build("prefix-load", others=0.1), views) == "a"


def test_prefix_load_goes_where_no_prompts_wait_to_fill_what_is_spared() -> None:
    views = [view("a", e2e_s=1.0, yielding=2.0), view("b", e2e_s=2.0)]
    assert first(build("prefix-load"), views) == "b"


def test_prefix_load_breaks_no_promised_pace_for_a_few_seconds() -> None:
    views = [view("a", others_s=1.0, broken=0.5, e2e_s=1.0), view("b", others_s=1.0, e2e_s=10.0)]
    assert first(build("prefix-load"), views) == "b"
    assert first(build("prefix-load", promise_s=1.0), views) == "a"


def test_prefix_load_weighs_the_best_of_many_in_full() -> None:
    crowd = [
        view(f"i{n}", running=8, waiting=2, promised_tokens=9000, e2e_s=9.0) for n in range(40)
    ]
    holder = view("holder", running=8, cached=90, e2e_s=1.0)
    idle = view("idle", e2e_s=2.0)
    ranked = build("prefix-load").rank(request(prompt_tokens=100), [*crowd, holder, idle], 0.0)
    assert [one.id for one in ranked[:2]] == ["holder", "idle"]
    assert len(ranked) == 32


def test_prefix_load_sends_what_was_promised_nothing_where_a_large_fleet_is_fullest() -> None:
    views = [view(f"i{n}", running=8, broken=0.5, e2e_s=2.0) for n in range(60)]
    views.append(view("full", running=40, waiting=9, promised_tokens=90_000, e2e_s=9.0))
    assert first(build("prefix-load"), views) == "full"
    assert first(build("prefix-load", promise_s=1.0), views) != "full"


def test_bad_parameters_say_what_they_should_be() -> None:
    with pytest.raises(Exception, match="choices must be at least 1, got 0"):
        build("two-choices", choices=0)
    with pytest.raises(Exception, match="weighed must be at least 2, got 1"):
        build("prefix-load", weighed=1)
