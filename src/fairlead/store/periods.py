"""Days and months, for budgets and bills. UTC, without a clock."""

from __future__ import annotations

import datetime

DAY_S = 86_400


def day_of(time_s: float) -> int:
    """Days since 1970, UTC."""
    return int(time_s // DAY_S)


def date_of(day: int) -> str:
    """As YYYY-MM-DD."""
    return (datetime.date(1970, 1, 1) + datetime.timedelta(day)).isoformat()


def first_day(period: str, now_s: float) -> int:
    """On which day the period that `now_s` is in began."""
    if period == "total":
        return 0
    if period == "day":
        return day_of(now_s)
    today = datetime.datetime.fromtimestamp(now_s, datetime.UTC).date()
    return (today.replace(day=1) - datetime.date(1970, 1, 1)).days


def next_period_s(period: str, now_s: float) -> float | None:
    """Seconds until the next period begins; None where none does."""
    if period == "total":
        return None
    first = first_day(period, now_s)
    following = first + 1
    if period == "month":
        began = datetime.date(1970, 1, 1) + datetime.timedelta(first)
        turn = (began + datetime.timedelta(32)).replace(day=1)
        following = (turn - datetime.date(1970, 1, 1)).days
    return following * DAY_S - now_s
