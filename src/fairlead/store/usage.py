"""The ledger of calls: written once each, summed by day, read for bills and budgets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from sqlalchemy import Connection, delete, func, select

from fairlead.store.call_record import CallRecord
from fairlead.store.database import Database
from fairlead.store.periods import day_of
from fairlead.store.schema import CALLS, TOTALS

ROWS_AT_A_TIME = 500
SUMS = ("calls", "prompt_tokens", "cached_tokens", "output_tokens")
GROUPS = ("tenant", "key_id", "model", "day")


class Usage:
    """What was used, by tenant, key, model and day."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, connection: Connection, calls: Sequence[CallRecord]) -> int:
        """Each call counts once, however often it is written; returns how many were new."""
        n_new = 0
        for start in range(0, len(calls), ROWS_AT_A_TIME):
            part = calls[start : start + ROWS_AT_A_TIME]
            put = self._database.insert(CALLS).values([asdict(call) for call in part])
            new = set(
                connection.execute(put.on_conflict_do_nothing().returning(CALLS.c.id)).scalars()
            )
            n_new += len(new)
            for row in _summed(call for call in part if call.id in new):
                put = self._database.insert(TOTALS).values(**row)
                added = {name: TOTALS.c[name] + row[name] for name in SUMS}
                connection.execute(
                    put.on_conflict_do_update(index_elements=list(GROUPS), set_=added)
                )
        return n_new

    def tokens_since(self, connection: Connection, first_days: Mapping[str, int]) -> dict[str, int]:
        """Prompt and output tokens of each tenant from a day of its own on."""
        tokens = func.coalesce(func.sum(TOTALS.c.prompt_tokens + TOTALS.c.output_tokens), 0)
        found = {}
        for tenant, day in first_days.items():
            query = select(tokens).where((TOTALS.c.tenant == tenant) & (TOTALS.c.day >= day))
            found[tenant] = int(connection.execute(query).scalar_one())
        return found

    def totals(
        self, by: Sequence[str], tenant: str | None = None, first_day: int = 0
    ) -> list[dict[str, int | str]]:
        """Sums from that day on, grouped by some of tenant, key_id, model and day."""
        groups = [TOTALS.c[name] for name in by]
        query = select(*groups, *(func.sum(TOTALS.c[name]).label(name) for name in SUMS))
        query = query.where(TOTALS.c.day >= first_day).group_by(*groups).order_by(*groups)
        if tenant is not None:
            query = query.where(TOTALS.c.tenant == tenant)
        with self._database.begin() as connection:
            rows = connection.execute(query).mappings().all()
        return [
            {name: int(row[name]) if name in SUMS else row[name] for name in (*by, *SUMS)}
            for row in rows
        ]

    def calls(self, tenant: str | None = None) -> list[CallRecord]:
        """The ledger itself, oldest first."""
        query = select(CALLS).order_by(CALLS.c.ended_s, CALLS.c.id)
        if tenant is not None:
            query = query.where(CALLS.c.tenant == tenant)
        with self._database.begin() as connection:
            return [CallRecord(**row) for row in connection.execute(query).mappings()]

    def forget_before(self, ended_s: float) -> int:
        """Deletes calls that ended earlier; their sums stay."""
        with self._database.begin() as connection:
            return connection.execute(delete(CALLS).where(CALLS.c.ended_s < ended_s)).rowcount


def _summed(calls: Iterable[CallRecord]) -> list[dict[str, int | str]]:
    rows: dict[tuple[str, str, str, int], dict[str, int | str]] = {}
    for call in calls:
        key = (call.tenant, call.key_id, call.model, day_of(call.ended_s))
        row = rows.setdefault(
            key, {**dict(zip(GROUPS, key, strict=True)), **dict.fromkeys(SUMS, 0)}
        )
        for name in SUMS:
            more = 1 if name == "calls" else getattr(call, name)
            row[name] = int(row[name]) + more
    # In one order, whoever writes: two gateways that wait for each other's rows would never end.
    return [rows[key] for key in sorted(rows)]
