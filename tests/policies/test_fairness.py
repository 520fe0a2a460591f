"""Who is next where tenants share: the rule of the virtual token counter, and what it promises."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from fairlead.model import Objective, Request
from fairlead.policies import registry
from fairlead.policies.fairness import FairnessPolicy
from tests.policies.test_conformance import view
from tests.strategies import request

FAIRNESS = [e.name for e in registry.entries() if e.family == "fairness"]
CHAT = Objective("chat", ttft_s=1.0)
TASK = Objective("task", deadline_s=30.0)
HERE = view("a")


def build(name: str = "vtc", **params: Any) -> FairnessPolicy:
    policy: FairnessPolicy = registry.build("fairness", name, params, Random(0))
    return policy


def of(tenant: str, i: int, **changes: Any) -> Request:
    return request(f"{tenant}{i}", **{"tenant": tenant, "objective": CHAT, **changes})


class Line:
    """A queue in front of one server that begins one request at a time."""

    def __init__(self, policy: FairnessPolicy) -> None:
        self.policy = policy
        self.queue: list[Request] = []
        self.served: list[str] = []
        self.now = 0.0

    def come(self, tenant: str, n: int, output_tokens: float = 10.0, **changes: Any) -> None:
        for _ in range(n):
            one = of(tenant, len(self.queue) + 1000 * len(self.served), **changes)
            self.policy.arrived(one, output_tokens, self.now)
            self.queue.append(one)

    def next(self) -> Request:
        lane = next(self.policy.in_turn())
        return next(one for one in self.queue if self.policy.lane(one) == lane)

    def serve(self, n: int = 1, output_tokens: int = 10, took_s: float = 0.1) -> list[str]:
        for _ in range(n):
            one = self.next()
            self.queue.remove(one)
            self.now += took_s
            self.policy.began(one, HERE, self.now)
            self.policy.ended(one.id, output_tokens)
            self.served.append(one.tenant)
        return self.served[-n:]


@pytest.mark.parametrize("name", FAIRNESS)
def test_a_fairness_policy_forgets_everybody_who_has_left(name: str) -> None:
    policy = build(name)
    for i in range(2000):
        one = of(f"t{i}", i, user=f"u{i}")
        policy.arrived(one, 5.0, float(i))
        if i % 2:
            policy.began(one, HERE, float(i))
        policy.ended(one.id, 3)
        assert policy.wait_s(one, 1, float(i)) == 0.0
        assert policy.crowder(one) is None
    kept = getattr(policy, "_tenants", {})
    assert sum(len(accounts.by_name) for accounts in kept.values()) < 600
    assert not getattr(policy, "_users", {})
    assert not getattr(policy, "_charges", {})


def test_one_that_asks_for_much_does_not_delay_one_that_asks_for_little() -> None:
    line = Line(build())
    line.come("flood", 50)
    line.serve(10)
    line.come("calm", 1)
    assert "calm" in line.serve(2)


def test_two_that_always_have_something_queued_are_served_alike() -> None:
    """The bound of the paper: twice what the largest request costs."""
    line = Line(build())
    line.come("long", 40, prompt_tokens=300)
    line.come("short", 400, prompt_tokens=10)
    line.serve(150)
    accounts = line.policy._tenants[0].by_name  # type: ignore[attr-defined]
    counters = [account.counter for account in accounts.values()]
    assert max(counters) - min(counters) <= 2 * (300 + 2 * 10)
    assert line.served.count("short") > 5 * line.served.count("long")


def test_twice_the_weight_is_twice_the_share() -> None:
    line = Line(build())
    line.come("a", 100, share_weight=2.0)
    line.come("b", 100)
    served = line.serve(90)
    assert served.count("a") == pytest.approx(60, abs=2)
    said = Line(build(weights={"b": 3.0}))
    said.come("a", 100)
    said.come("b", 100)
    assert said.serve(80).count("b") == pytest.approx(60, abs=2)


def test_idle_time_earns_no_credit() -> None:
    line = Line(build())
    line.come("a", 1)
    line.come("b", 200)
    line.serve(100)
    line.come("a", 100)
    served = line.serve(60)
    assert served.count("a") == pytest.approx(30, abs=2)


def test_users_of_one_tenant_share_its_part() -> None:
    line = Line(build())
    line.come("acme", 100, user="loud")
    line.come("acme", 5, user="calm")
    line.come("else", 100)
    line.serve(22)
    calm = [one for one in line.queue if one.user == "calm"]
    assert calm == []
    assert line.served.count("else") == 11


def test_newcomers_of_one_tenant_wait_for_each_other_in_order() -> None:
    """A user of their own for each request passes nobody."""
    policy = build()
    crowd = [of("acme", i, user=f"user {i}") for i in range(50)]
    for i, one in enumerate(crowd):
        assert policy.n_before(one, 0) == i
        policy.arrived(one, 10.0, 0.0)
    assert [lane[-1] for lane in policy.in_turn()] == [one.user for one in crowd]


def test_each_other_user_has_as_many_turns_as_one_has_before_the_next() -> None:
    line = Line(build())
    line.come("acme", 9, user="loud")
    line.come("acme", 2, user="calm")
    line.come("else", 7)
    new, calm, loud = (of("acme", 99, user=user) for user in ("new", "calm", "loud"))
    assert line.policy.n_before(new, 0) == 2
    assert line.policy.n_before(calm, 2) == 2 + 3
    assert line.policy.n_before(loud, 9) == 9 + 2


def test_turns_are_by_what_was_served_whatever_came_and_went() -> None:
    draw, policy = Random(7), build()
    queued: list[Request] = []
    running: list[Request] = []
    for i in range(3000):
        choice = draw.random()
        if choice < 0.4 or not queued:
            one = of(f"t{draw.randrange(5)}", i, user=f"u{draw.randrange(40)}")
            policy.arrived(one, draw.uniform(1, 200), float(i))
            queued.append(one)
        elif choice < 0.7:
            running.append(queued.pop(draw.randrange(len(queued))))
            policy.began(running[-1], HERE, float(i))
        elif choice < 0.8 or not running:
            policy.ended(queued.pop(draw.randrange(len(queued))).id, 0)
        else:
            policy.ended(running.pop(draw.randrange(len(running))).id, draw.randrange(400))
        lanes = list(policy.in_turn())
        assert set(lanes) == {policy.lane(one) for one in queued}
        served = [served_by(policy, lane) for lane in lanes]
        assert served == sorted(served)


def served_by(policy: Any, lane: Any) -> tuple[float, float, int, float]:
    tier, tenant, user = lane
    its = policy._tenants[tier].by_name[tenant]
    return (its.counter, its.own, its.rank, policy._users[tier, tenant].by_name[user].counter)


def test_what_was_expected_is_settled_with_what_came() -> None:
    line = Line(build())
    line.come("brief", 60, output_tokens=100.0)
    line.come("wordy", 60, output_tokens=100.0)
    for _ in range(60):
        tenant = line.next().tenant
        line.serve(1, output_tokens=10 if tenant == "brief" else 190)
    assert line.served.count("brief") > 4 * line.served.count("wordy")


def test_what_is_promised_a_time_goes_before_what_is_not_and_does_not_pay_for_it() -> None:
    line = Line(build())
    line.come("a", 20, objective=Objective("batch"))
    line.serve(15)
    line.come("b", 2)
    line.come("a", 2)
    assert sorted(line.serve(4)) == ["a", "a", "b", "b"]
    assert line.serve(2) == ["a", "a"]


def test_the_wait_is_what_is_queued_over_the_rate_at_which_it_moves() -> None:
    policy = build(hold_s=0.1)
    line = Line(policy)
    line.come("a", 200)
    line.serve(100)  # Ten a second.
    n = len(line.queue)
    assert policy.wait_s(of("a", 9999), n, line.now) == pytest.approx(n / 10 + 0.1, rel=0.1)
    assert policy.wait_s(of("b", 9999), 0, line.now) == 0.0


def test_a_burst_into_an_idle_fleet_is_not_told_to_wait() -> None:
    """What was served in quiet times says nothing about how fast a queue moves."""
    line = Line(build())
    for _ in range(20):
        line.come("a", 1)
        line.serve(took_s=0.0)
        line.now += 5.0
    line.come("a", 50)
    assert line.policy.wait_s(of("a", 9999), 50, line.now) == 0.0


def test_who_lets_others_pass_waits_until_others_like_it_have_had_their_turns() -> None:
    """Ten chats come and begin each second, and twenty tasks wait all the time: at worst they get a
    quarter of what is served."""
    policy = build(hold_s=0.1)
    line = Line(policy)
    for i in range(20):
        policy.arrived(of("a", -1 - i, objective=TASK), 10.0, 0.0)
    line.come("a", 2)
    for _ in range(100):
        line.come("a", 1)
        line.serve()
    chat, task = of("a", 9999), of("a", 9999, objective=TASK)
    assert policy.wait_s(chat, 22, line.now) == pytest.approx(22 / 10 + 0.1, rel=0.1)
    assert policy.wait_s(task, 22, line.now) == pytest.approx(20 / 2.5 + 0.1, rel=0.1)


def test_whoever_crowds_the_queue_makes_room_and_nobody_for_themselves() -> None:
    line = Line(build())
    line.come("a", 5, user="x")
    line.come("a", 3, user="y")
    line.come("b", 2)
    assert line.policy.crowder(of("b", 99)) == (0, "a", "x")
    assert line.policy.crowder(of("a", 99)) is None
    line.come("b", 5)
    assert line.policy.crowder(of("b", 99)) is None  # As many as the others have, with this one.
