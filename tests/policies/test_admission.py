"""The behaviour that each admission policy claims."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from fairlead.model import Objective, RequestView, Role
from fairlead.policies import registry
from fairlead.policies.admission.decode_load import Inside, Pace
from tests.policies.test_conformance import View, view
from tests.strategies import request

PROMPT = Objective("prompt", ttft_s=1.0)
TASK = Objective("task", deadline_s=10.0)
TALK = Objective("talk", ttft_s=10.0, tpot_s=0.05)


def answer(name: str, objective: Objective, *views: View, **params: Any) -> float | None:
    policy = registry.build("admission", name, params, Random(0))
    waited_s: float | None = policy.retry_after_s(request(objective=objective), views, 0.0)
    return waited_s


# ---------------------------------------------------------------- predicted


def test_who_only_decodes_makes_no_first_token() -> None:
    """An idle decode instance would be quick; but requests are not sent there."""
    late = view("p", role=Role.PREFILL, ttft_s=3.0)
    idle = view("d", role=Role.DECODE, ttft_s=0.1)
    assert answer("predicted", PROMPT, late, idle) == 2.0
    assert answer("predicted", PROMPT, view("p", role=Role.PREFILL, ttft_s=0.5), idle) is None
    assert answer("predicted", PROMPT, view("m", ttft_s=3.0), idle) == 2.0


def test_where_nobody_else_is_left_those_who_only_decode_are_asked() -> None:
    assert answer("predicted", PROMPT, view("d", role=Role.DECODE, ttft_s=0.1)) is None
    assert answer("predicted", PROMPT, view("d", role=Role.DECODE, ttft_s=3.0)) == 2.0


def test_a_deadline_counts_the_prompt_here_and_the_rest_where_it_is_handed_off_to() -> None:
    """The prefill instance alone would take 4 s for all of it; but it hands off to one of two, the
    better of which takes 9 s after the first token."""
    prefill = view("p", role=Role.PREFILL, ttft_s=3.0, e2e_s=4.0)
    slow = view("d", role=Role.DECODE, ttft_s=1.0, e2e_s=20.0)
    quick = view("e", role=Role.DECODE, ttft_s=1.0, e2e_s=10.0)
    assert answer("predicted", TASK, prefill) is None
    assert answer("predicted", TASK, prefill, slow, quick) == 2.0
    # One that does both keeps what it has begun.
    assert answer("predicted", TASK, view("m", e2e_s=8.0), slow) is None


def test_where_a_queue_stands_a_promise_must_be_kept_with_something_to_spare() -> None:
    for objective, found in (
        (PROMPT, {"ttft_s": 0.7}),
        (TASK, {"ttft_s": 0.7, "e2e_s": 7.0}),
    ):
        assert answer("predicted", objective, view("a", waiting=7, **found)) is None
        assert answer("predicted", objective, view("a", waiting=8, **found)) == 1.0
        assert answer("predicted", objective, view("a", waiting=8, **found), margin=0.8) is None


# ---------------------------------------------------------------- mooncake


def test_early_asks_each_side_for_its_part() -> None:
    prefill = view("p", role=Role.PREFILL, ttft_s=2.0, tpot_s=9.0)
    decode = view("d", role=Role.DECODE, ttft_s=99.0, tpot_s=0.04)
    assert answer("mooncake-early", TALK, prefill, decode) is None
    assert answer("mooncake-early", TALK, prefill, decode, most=0.1) == 1.0
    slow = view("d", role=Role.DECODE, tpot_s=0.06)
    assert answer("mooncake-early", TALK, prefill, slow) == 1.0


@dataclass(frozen=True)
class Decoder(View):
    """Each sequence of the batch costs 1 ms per token, and an answer has 100 more tokens."""

    def predicted_tpot_s(self, request: RequestView) -> float:
        return 0.01 + 0.001 * (self.running + self.waiting)

    def predicted_e2e_s(self, request: RequestView) -> float:
        return self.ttft_s + 100 * self.predicted_tpot_s(request)


def decoder(running: int) -> Decoder:
    return Decoder(view("d").id, running=running, role=Role.DECODE)


def prefiller(waiting: int, ttft_s: float) -> View:
    return view("p", role=Role.PREFILL, waiting=waiting, ttft_s=ttft_s)


def filled(n: int, each_s: float = 0.0) -> Callable[[float, View, View], float | None]:
    """Asks a policy that has admitted `n` requests, each so long after the one before it. They
    take 100 tokens of 50 ms each: five seconds."""
    policy = registry.build("admission", "mooncake-predicted", {}, Random(0))
    for i in range(n):
        one = request(f"r{i}", objective=TALK, arrival_s=i * each_s)
        assert policy.retry_after_s(one, (prefiller(0, 0.0), decoder(i)), i * each_s) is None

    def ask(now: float, *views: View) -> float | None:
        one = request("another", objective=TALK, arrival_s=now)
        waited_s: float | None = policy.retry_after_s(one, views, now)
        return waited_s

    return ask


def test_prediction_counts_what_is_still_to_be_prefilled() -> None:
    """40 decode and 41 would be too slow: the naive rule sees 20, and another 30 are coming."""
    seen = (prefiller(30, 1.0), decoder(20))
    assert answer("mooncake-early", TALK, *seen) is None
    assert filled(30)(0.0, *seen) == 1.0
    assert filled(30)(0.0, prefiller(10, 1.0), decoder(20)) is None


def test_prediction_leaves_out_who_will_have_ended() -> None:
    """45 decode, too many for now; those admitted in the first second end by second six."""
    ask = filled(40, each_s=0.1)
    now = decoder(45)
    assert ask(4.0, prefiller(0, 0.5), now) == 1.0
    assert answer("mooncake-early", TALK, prefiller(0, 2.0), now) == 1.0
    assert ask(4.0, prefiller(0, 3.0), now) is None


def test_prediction_rejects_a_first_token_that_comes_too_late() -> None:
    assert filled(0)(0.0, prefiller(0, 12.5), decoder(0)) == 2.5


def test_prediction_admits_where_nobody_decodes_and_what_was_promised_nothing() -> None:
    assert filled(0)(0.0, prefiller(0, 0.5)) is None
    full = (prefiller(99, 0.5), decoder(99))
    assert answer("mooncake-predicted", Objective("none"), *full) is None


def test_who_is_inside_is_counted_until_it_should_have_ended() -> None:
    inside = Inside()
    assert inside.share(0.0, 9.0) == 1.0
    for begin_s, end_s in ((1.0, 5.0), (3.0, 4.0), (2.0, 8.0)):
        inside.add(begin_s, end_s)
    assert inside.share(0.0, 0.5) == 0.0
    assert inside.share(0.0, 1.0) == 1 / 3
    assert inside.share(0.0, 3.5) == 1.0
    assert inside.share(0.0, 4.0) == 2 / 3
    assert inside.share(4.5, 6.0) == 1 / 2
    assert inside.share(9.0, 9.0) == 1.0
    assert inside._begin_s == inside._end_s == []


def test_a_pace_is_a_line_through_the_least_batch_and_the_last() -> None:
    pace = Pace()
    pace.see(4.0, 0.020)
    assert pace.tpot_s(10.0) == 0.020
    pace.see(8.0, 0.028)
    assert pace.tpot_s(10.0) == pytest.approx(0.032)
    pace.see(2.0, 0.019)
    pace.see(6.0, 0.015)
    assert pace.tpot_s(99.0) == 0.019, "more requests are never quicker"


def test_bad_parameters_of_mooncake_say_what_they_should_be() -> None:
    for name in ("mooncake-early", "mooncake-predicted"):
        with pytest.raises(Exception, match="most and retry_after_s must be positive"):
            registry.build("admission", name, {"most": 0.0}, Random(0))
