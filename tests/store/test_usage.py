"""The ledger, and what gateways share about limits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fairlead.store.call_record import CallRecord
from fairlead.store.database import Database
from fairlead.store.periods import DAY_S, first_day, next_period_s
from fairlead.store.shared_limits import STALE_S, SharedLimits, Spent
from fairlead.store.usage import ROWS_AT_A_TIME, Usage

CALL = CallRecord("c1", "acme", "k", "m", "chat", "finished", 3 * DAY_S + 5.0, 100, 40, 7)


def calls(n: int) -> list[CallRecord]:
    return [replace(CALL, id=f"c{i}", ended_s=i * DAY_S / 100) for i in range(n)]


def test_a_call_counts_once_however_often_it_is_written(database: Database) -> None:
    usage = Usage(database)
    for new in ([CALL], [CALL, replace(CALL, id="c2", model="n")], [CALL]):
        with database.begin() as connection:
            usage.write(connection, new)
    assert [call.id for call in usage.calls()] == ["c1", "c2"]
    sums = {"calls": 2, "prompt_tokens": 200, "cached_tokens": 80, "output_tokens": 14}
    assert usage.totals(["tenant"]) == [{"tenant": "acme", **sums}]
    assert [row["calls"] for row in usage.totals(["model", "day"], "acme")] == [1, 1]
    assert usage.totals(["tenant"], "other") == []


def test_many_calls_are_all_written_and_their_sums_are_theirs(database: Database) -> None:
    usage, n = Usage(database), 2 * ROWS_AT_A_TIME + 3
    with database.begin() as connection:
        assert usage.write(connection, calls(n)) == n
        assert usage.tokens_since(connection, {"acme": 2, "nobody": 0}) == {
            "acme": 107 * (n - 200),
            "nobody": 0,
        }
    assert sum(int(row["calls"]) for row in usage.totals(["day"])) == n == len(usage.calls())


def test_old_calls_are_forgotten_and_their_sums_stay(database: Database) -> None:
    usage = Usage(database)
    with database.begin() as connection:
        usage.write(connection, calls(10))
    assert usage.forget_before(5 * DAY_S / 100) == 5
    assert len(usage.calls()) == 5
    assert usage.totals(["tenant"])[0]["calls"] == 10


def test_what_two_gateways_spend_is_one_sum_that_runs_off(database: Database) -> None:
    limits = SharedLimits(database)
    with database.begin() as connection:

        def spend(amount: float, now_s: float) -> float:
            return limits.spend(connection, Spent("acme", "tokens", amount, 60.0), now_s)

        assert spend(30, 100.0) == 30
        assert spend(50, 100.0) == 80
        assert spend(0, 110.0) == pytest.approx(70)
        assert spend(5, 105.0) == pytest.approx(75)  # A clock that is late lets nothing run off,
        assert spend(0, 110.0) == pytest.approx(75)  # and nothing twice.
        assert spend(1, 500.0) == 1
        assert limits.spend(connection, Spent("acme", "requests", 2, 60.0), 500.0) == 2


def test_what_is_under_way_elsewhere_is_known_until_a_gateway_is_silent(
    database: Database,
) -> None:
    limits = SharedLimits(database)
    with database.begin() as connection:
        limits.tell_under_way(connection, "g1", {"a": 3, "b": 1}, 100.0)
        limits.tell_under_way(connection, "g2", {"a": 2}, 100.0)
        limits.tell_under_way(connection, "g2", {"a": 4}, 101.0)
        assert limits.under_way_elsewhere(connection, "g1", ["a", "b"], 102.0) == {"a": 4}
        assert limits.under_way_elsewhere(connection, "g3", ["a", "b"], 102.0) == {"a": 7, "b": 1}
        assert limits.under_way_elsewhere(connection, "g3", ["a"], 101.0 + STALE_S) == {}
        limits.leave(connection, "g2", 102.0)
        assert limits.under_way_elsewhere(connection, "g3", ["a"], 102.0) == {"a": 3}


def test_periods_begin_and_end_with_the_days_of_utc() -> None:
    leap_day_s = 1_709_164_800.0  # 2024-02-29 00:00 UTC
    day = int(leap_day_s // DAY_S)
    assert first_day("day", leap_day_s + 5) == day
    assert first_day("month", leap_day_s + 5) == day - 28
    assert first_day("total", leap_day_s) == 0
    assert next_period_s("day", leap_day_s + 5) == DAY_S - 5
    assert next_period_s("month", leap_day_s) == DAY_S
    assert next_period_s("month", leap_day_s + DAY_S) == 31 * DAY_S
    assert next_period_s("total", leap_day_s) is None
