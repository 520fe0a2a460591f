"""Limits, as arithmetic."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.gateway.tenants.account import Account, Rate
from fairlead.model import RequestError
from fairlead.store.tenant import Tenant


def account(**rules: Any) -> Account:
    return Account(Tenant("acme", **rules), 0.0)


def refused(tenant: Account, now_s: float) -> RequestError:
    with pytest.raises(RequestError) as error:
        tenant.enter(now_s)
    assert error.value.status == 429
    return error.value


def test_a_minutes_worth_at_once_and_then_at_the_rate() -> None:
    tenant = account(requests_per_minute=3)
    for _ in range(3):
        tenant.enter(100.0)
    error = refused(tenant, 100.0)
    assert (error.code, error.retry_after_s) == ("requests_per_minute_exceeded", 20.0)
    refused(tenant, 119.9)
    tenant.enter(120.0)
    refused(tenant, 120.1)
    for _ in range(3):
        tenant.enter(500.0)
    refused(tenant, 500.0)


def test_whoever_does_as_told_is_let_in_and_not_a_moment_before() -> None:
    tenant = account(requests_per_minute=7)
    now_s = 0.0
    for _ in range(7):
        tenant.enter(now_s)
    for _ in range(20):
        wait_s = refused(tenant, now_s).retry_after_s
        assert wait_s is not None
        refused(tenant, now_s + 0.99 * wait_s)
        now_s += wait_s + 1e-6
        tenant.enter(now_s)
    assert now_s == pytest.approx(20 * 60 / 7)


def test_tokens_count_as_they_go_out_and_come_back_where_nothing_came_of_it() -> None:
    tenant = account(tokens_per_minute=100)
    tenant.enter(0.0)
    tenant.use(80, lambda: 0.0)
    tenant.enter(0.0)
    tenant.use(70, lambda: 0.0)
    error = refused(tenant, 0.0)
    assert error.code == "tokens_per_minute_exceeded"
    assert error.retry_after_s == pytest.approx(51 * 0.6)
    tenant.use(-70, lambda: 0.0)
    tenant.enter(0.0)


def test_a_clock_that_runs_back_gives_nothing_away() -> None:
    rate = Rate()
    rate.take(10, 60, 100.0)
    assert rate.used(60, 90.0) == 10
    rate.take(1, 60, 90.0)
    assert rate.used(60, 100.0) == 11


def test_only_so_many_answers_are_under_way_here_and_elsewhere() -> None:
    tenant = account(max_concurrent=3)
    tenant.open(2)
    tenant.n_elsewhere = 1
    with pytest.raises(RequestError, match="3 answers are under way") as error:
        tenant.open(1)
    assert (error.value.status, error.value.code) == (429, "concurrency_limit_exceeded")
    tenant.close(2)
    tenant.open(1)
    with pytest.raises(RequestError, match="ask for fewer than 4"):
        tenant.open(4)


def test_a_budget_counts_what_the_ledger_has_and_what_it_has_not_yet() -> None:
    tenant = account(budget_tokens=100, budget_period="day")
    tenant.set_budget_used(60, 0)
    tenant.use(39, lambda: 0.0)
    tenant.enter(10.0)
    tenant.use(1, lambda: 0.0)
    error = refused(tenant, 10.0)
    assert (error.code, error.retry_after_s) == ("insufficient_quota", 86_390.0)
    tenant.settle(40)
    tenant.set_budget_used(100, 0)
    refused(tenant, 20.0)
    tenant.enter(86_400.0)  # Another day.


def test_what_was_told_is_not_told_again_and_what_came_meanwhile_is() -> None:
    rate = Rate()
    rate.take(5, 60, 100.0)
    assert rate.tell() == 5
    rate.take(2, 60, 100.0)
    rate.told(25, 100.0)  # Another gateway has used 20.
    assert rate.used(60, 100.0) == 27
    assert rate.tell() == 2
    assert rate.tell() == 2  # The database did not answer.


def test_nothing_is_limited_where_nothing_is_said() -> None:
    tenant = account()
    for _ in range(1000):
        tenant.enter(0.0)
        tenant.open(100)
        tenant.use(1 << 40, lambda: 0.0)
