"""What a request is told of an instance, whatever else was asked before."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from fairlead.fleet.flow import RATE_OF
from fairlead.fleet.lengths import OutputLengths
from fairlead.fleet.present import Present
from fairlead.fleet.shadow import Shadow
from fairlead.fleet.tracked import Tracked
from fairlead.latency import list_profiles, load_profile
from fairlead.model import Objective, Request, RequestId
from tests.strategies import request, spec

PACED = Objective("x", ttft_s=1.0, tpot_s=0.02)


class Place:
    """An instance with a clock."""

    def __init__(self, *, urgent_first: bool = False, **fields: Any) -> None:
        self.present = Present(0.0)
        self.lengths = OutputLengths()
        self._requests: dict[RequestId, Tracked] = {}
        the_spec = spec(**{"n_blocks": 1000, "urgent_first": urgent_first, **fields})
        self.shadow = Shadow(the_spec, self.lengths, self.present, self._requests)

    def send(self, one: Request) -> None:
        self._requests[one.id] = Tracked(one, self.present.now)
        self.shadow.promise(one, 1, 0)


def test_what_was_found_out_is_forgotten_when_something_changes() -> None:
    place, one = Place(), request("new", 100)
    alone_s = place.shadow.predicted_ttft_s(one)
    place.send(request("r1", 500))
    behind_s = place.shadow.predicted_ttft_s(one)
    assert behind_s > alone_s
    place.shadow.release(RequestId("r1"), 500)
    assert place.shadow.predicted_ttft_s(one) == alone_s


def test_it_is_forgotten_when_time_passes_even_if_others_looked_first() -> None:
    place, one = Place(), request("new", 100)
    place.send(request("r1", 500))
    before_s = place.shadow.predicted_ttft_s(one)
    place.present.now = 0.02
    assert place.shadow.queued_tokens < 500
    assert place.shadow.predicted_ttft_s(one) < before_s


@pytest.mark.parametrize("profile", list_profiles())
@pytest.mark.parametrize("urgent_first", [False, True])
def test_no_prediction_is_below_the_least(profile: str, urgent_first: bool) -> None:
    draw = Random(f"{profile} {urgent_first}")
    coefficients = load_profile(profile).coefficients
    place = Place(urgent_first=urgent_first, latency=coefficients, n_blocks=100_000)
    for i in range(60):
        tokens = draw.choice([1, 30, 2048, 2049, 30_000])
        one = request(f"r{i}", tokens, objective=draw.choice([PACED, Objective("x")]))
        least_s, predicted_s = place.shadow.least_ttft_s(one), place.shadow.predicted_ttft_s(one)
        assert 0 < least_s <= predicted_s
        assert i or least_s == predicted_s, "nobody is there"
        place.send(one)
        if i % 3:
            place.shadow.first_token(one.id, tokens + 1)
        place.present.now += draw.expovariate(20.0)
        assert place.shadow.least_ttft_s(one) <= place.shadow.predicted_ttft_s(one)


def test_a_cached_prefix_delays_others_less() -> None:
    place, prompt = Place(), list(range(400))
    place.send(request("r1", prompt))
    fresh = place.shadow.added_s(request("new", 401))
    assert place.shadow.added_s(request("again", [*prompt, 9])) < fresh


def test_where_nobody_is_no_pace_breaks() -> None:
    place, one = Place(), request("new", 800, objective=PACED)
    place.lengths.add(3)  # Too short to catch up with anything.
    assert place.shadow.broken_paces(one) == 0.0
    place.send(request("r1", 10, objective=PACED))
    assert place.shadow.broken_paces(one) > 0.0


def test_a_prompt_that_was_refused_breaks_no_paces_later() -> None:
    broken = {}
    for refused in (False, True):
        place = Place(n_blocks=100_000)
        for i in range(2 * RATE_OF):
            one = request(f"r{i}", 100, out=200, objective=PACED)
            place.send(one)
            place.shadow.first_token(one.id, 101)
            place.present.now += 1.0
            if refused and i == RATE_OF:
                place.send(request("too-long", 100_000))
                place.shadow.release(RequestId("too-long"), 100_000)
        broken[refused] = place.shadow.broken_paces(request("new", 800, objective=PACED))
    assert broken[True] == pytest.approx(broken[False], abs=0.05)


def test_what_is_promised_nothing_delays_a_task_only_where_the_urgent_do_not_go_first() -> None:
    task = request("task", 10, out=50, objective=Objective("task", deadline_s=60.0))
    batch = request("batch", 10, out=50)
    urgent, fair = Place(urgent_first=True), Place()
    alone_s = urgent.shadow.predicted_e2e_s(task)
    for place in (urgent, fair):
        for i in range(3):
            place.send(request(f"r{i}", 1000))
    queued_s = fair.shadow.predicted_e2e_s(task) - alone_s
    assert queued_s > 0.5
    assert urgent.shadow.predicted_e2e_s(task) - alone_s < 0.1 * queued_s
    assert urgent.shadow.predicted_e2e_s(batch) > alone_s + 0.5 * queued_s
    # It is there none the less, and fills what time the task leaves.
    assert 0.4 * queued_s < urgent.shadow.yielding_s(task) < queued_s
    assert urgent.shadow.yielding_s(batch) == fair.shadow.yielding_s(task) == 0.0


def test_prompts_that_are_due_delay_a_task_wherever_it_is() -> None:
    task = request("task", 10, out=50, objective=Objective("task", deadline_s=60.0))
    place = Place(urgent_first=True)
    alone_s = place.shadow.predicted_e2e_s(task)
    place.send(request("r1", 1000, objective=PACED))
    assert place.shadow.predicted_e2e_s(task) > alone_s + 0.05
    assert place.shadow.yielding_s(task) == 0.0
