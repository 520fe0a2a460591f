"""What every policy of a family owes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings

from fairlead.model import ConfigError, InstanceId, Objective, RequestView, Role
from fairlead.policies import registry
from fairlead.policies.routing import least_load
from tests.policies import fakes
from tests.policies.fakes import RESCHEDULING, SCALING, Host, Pool, host_lists
from tests.strategies import ADMISSION, BATCHING, ROUTING, request


@dataclass(frozen=True)
class View:
    """An instance as a test wants it to look."""

    id: InstanceId
    running: int = 0
    waiting: int = 0
    queued_tokens: int = 0
    ttft_s: float = 0.1
    least_s: float | None = None
    tpot_s: float = 0.01
    e2e_s: float = 1.0
    others_s: float = 0.0
    broken: float = 0.0
    yielding: float = 0.0
    cached: int = 0
    pool: str = "p"
    role: Role = Role.MIXED
    price_per_hour: float = 0.0
    promised_tokens: int = 0
    context_tokens: int = 0
    available_blocks: int = 100
    total_blocks: int = 100

    def cached_tokens(self, request: RequestView) -> int:
        return self.cached

    def predicted_ttft_s(self, request: RequestView) -> float:
        return self.ttft_s

    def least_ttft_s(self, request: RequestView) -> float:
        return self.least_s if self.least_s is not None else self.ttft_s

    def added_s(self, request: RequestView) -> float:
        return self.others_s

    def broken_paces(self, request: RequestView) -> float:
        return self.broken

    def predicted_tpot_s(self, request: RequestView) -> float:
        return self.tpot_s

    def predicted_e2e_s(self, request: RequestView) -> float:
        return self.e2e_s

    def yielding_s(self, request: RequestView) -> float:
        return self.yielding


def view(name: str, **fields: Any) -> View:
    return View(InstanceId(name), **fields)


VIEWS = [view("a"), view("b", running=3, ttft_s=0.4), view("c", cached=8, e2e_s=0.5)]


@pytest.mark.parametrize("name", ROUTING)
def test_a_routing_policy_returns_candidates_and_nothing_else(name: str) -> None:
    policy = registry.build("routing", name, {}, Random(1))
    for candidates in (VIEWS, VIEWS[:1], []):
        ranked = policy.rank(request(), candidates, 0.0)
        assert len({one.id for one in ranked}) == len(ranked)
        assert all(one in candidates for one in ranked)
        assert bool(ranked) == bool(candidates)


@pytest.mark.parametrize("name", ROUTING)
def test_a_routing_policy_is_deterministic_under_a_seed(name: str) -> None:
    def ranks() -> list[list[str]]:
        policy = registry.build("routing", name, {}, Random(7))
        return [[v.id for v in policy.rank(request(f"r{i}"), VIEWS, 0.0)] for i in range(20)]

    assert ranks() == ranks()


@pytest.mark.parametrize("name", ADMISSION)
def test_an_admission_policy_never_turns_batch_work_away_and_answers_without_instances(
    name: str,
) -> None:
    policy = registry.build("admission", name, {}, Random(1))
    assert policy.retry_after_s(request(), [view("a", ttft_s=99.0)], 0.0) is None
    promised = request(objective=Objective("x", ttft_s=0.1))
    assert policy.retry_after_s(promised, [], 0.0) is None


@pytest.mark.parametrize("name", RESCHEDULING)
@settings(max_examples=30, deadline=None)
@given(hosts=host_lists())
def test_a_rescheduling_policy_moves_what_is_there_and_never_twice(
    name: str, hosts: list[Host]
) -> None:
    policy = registry.build("rescheduling", name, {}, Random(1))
    assert policy.period_s > 0
    where = {one.request.id: h.id for h in hosts for one in (*h.decoding, *h.queue)}
    still = {one.request.id for h in hosts for one in (*h.decoding, *h.queue) if one.is_moving}
    moves = policy.propose(hosts, 1.0)
    assert len({move.request for move in moves}) == len(moves)
    for move in moves:
        assert move.request not in still
        assert where[move.request] == move.source != move.target
        assert move.target in {h.id for h in hosts}


@pytest.mark.parametrize("name", RESCHEDULING)
@settings(max_examples=20, deadline=None)
@given(hosts=host_lists())
def test_a_rescheduling_policy_is_deterministic_under_a_seed(name: str, hosts: list[Host]) -> None:
    def rounds() -> list[Any]:
        policy = registry.build("rescheduling", name, {}, Random(7))
        return [list(policy.propose(hosts, 0.5 * i)) for i in range(3)]

    assert rounds() == rounds()


@pytest.mark.parametrize("name", RESCHEDULING)
def test_a_rescheduling_policy_answers_for_no_instance_and_for_one(name: str) -> None:
    policy = registry.build("rescheduling", name, {}, Random(1))
    full = fakes.crowd("a", 12, 128, queue=[fakes.placed("q", 1600)], preemptions=3)
    assert [list(policy.propose(hosts, 0.0)) for hosts in ([], [full])] == [[], []]


@pytest.mark.parametrize("name", SCALING)
@settings(max_examples=20, deadline=None)
@given(hosts=host_lists())
def test_a_scaling_policy_wants_a_number_of_instances_and_the_same_under_a_seed(
    name: str, hosts: list[Host]
) -> None:
    def wants() -> list[int]:
        policy = registry.build("scaling", name, {}, Random(7))
        assert policy.period_s > 0
        answers = []
        for i in range(4):
            policy.arrived(request(f"r{i}", objective=Objective("x", ttft_s=1.0)), 5.0 * i)
            up = tuple(h for h in hosts if not h.draining)
            answers.append(policy.desired(Pool(up[i:], n_starting=i, n_queued=i), 5.0 * i + 1))
        return answers

    first = wants()
    assert all(isinstance(n, int) and n >= 0 for n in first)
    assert first == wants()


@pytest.mark.parametrize("entry", registry.entries(), ids=lambda e: f"{e.family}-{e.name}")
def test_every_policy_says_what_it_is_and_what_its_numbers_mean(entry: registry.Entry) -> None:
    assert entry.sentence.endswith(".")
    assert "Rule:" in entry.doc
    assert entry.params.__dataclass_params__.frozen
    policy = registry.build(entry.family, entry.name, {}, Random(0))
    assert policy is not None
    with pytest.raises(ConfigError, match="no parameter 'nonsense'"):
        registry.build(entry.family, entry.name, {"nonsense": 1}, Random(0))
    for field in fields(entry.params):
        with pytest.raises(ConfigError, match=f"{field.name} must be"):
            registry.build(entry.family, entry.name, {field.name: "text"}, Random(0))


def test_a_compiled_policy_says_what_it_is_though_its_module_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = least_load.__doc__
    monkeypatch.setattr(least_load, "__doc__", None)
    assert registry.docstring(least_load.__name__) == said


def test_an_unknown_policy_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'round-robin'"):
        registry.find("routing", "roundrobin")
    with pytest.raises(ConfigError, match="known are"):
        registry.find("batching", "zzz")


def test_the_families_hold_what_this_version_promises() -> None:
    assert set(BATCHING) >= {"fcfs", "sarathi", "past-future", "slack"}
    assert set(ROUTING) >= {"round-robin", "least-load", "prefix-load", "two-choices"}
    assert set(ADMISSION) >= {"always", "predicted"}
    assert set(RESCHEDULING) >= {"none", "llumnix", "hotspot", "defragment", "vm-rescheduling"}
    assert set(SCALING) >= {"none", "queue-based", "llumnix-scaling", "kpa", "slo-forecast"}
