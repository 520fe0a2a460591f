"""What gateways tell each other about limits, through the database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, case, delete, func, select

from fairlead.store.database import Database
from fairlead.store.schema import RATES, UNDER_WAY

STALE_S = 15.0
"""A gateway that has said nothing for so long has died, and nothing of it is under way."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What one gateway let through since it last told."""

    tenant: str
    what: str
    """requests or tokens"""
    amount: float
    per_minute: float
    """The limit, at which it runs off."""


class SharedLimits:
    def __init__(self, database: Database) -> None:
        self._database = database

    def spend(self, connection: Connection, spent: Spent, now_s: float) -> float:
        """What all gateways together have used now, this included."""
        rate_per_s = spent.per_minute / 60
        gone_s = now_s - RATES.c.as_of_s
        # Clocks of two gateways differ a little: nothing runs off before it was spent.
        gone_s = case((gone_s > 0, gone_s), else_=0.0)
        left = RATES.c.used - rate_per_s * gone_s
        used = case((left > 0, left), else_=0.0) + spent.amount
        row = {
            "tenant": spent.tenant,
            "what": spent.what,
            "used": spent.amount,
            "as_of_s": now_s,
        }
        put = self._database.insert(RATES).values(**row)
        later_s = case((RATES.c.as_of_s > now_s, RATES.c.as_of_s), else_=now_s)
        put = put.on_conflict_do_update(
            index_elements=["tenant", "what"], set_={"used": used, "as_of_s": later_s}
        )
        return float(connection.execute(put.returning(RATES.c.used)).scalar_one())

    def tell_under_way(
        self, connection: Connection, gateway: str, counts: Mapping[str, int], now_s: float
    ) -> None:
        """How many answers of each tenant are under way at this gateway."""
        for tenant, n in sorted(counts.items()):
            row = {"tenant": tenant, "gateway": gateway, "n": n, "as_of_s": now_s}
            put = self._database.insert(UNDER_WAY).values(**row)
            now = {"n": n, "as_of_s": now_s}
            connection.execute(
                put.on_conflict_do_update(index_elements=["tenant", "gateway"], set_=now)
            )

    def under_way_elsewhere(
        self, connection: Connection, gateway: str, tenants: Iterable[str], now_s: float
    ) -> dict[str, int]:
        """How many of each are under way at all others."""
        elsewhere = (UNDER_WAY.c.gateway != gateway) & (UNDER_WAY.c.as_of_s > now_s - STALE_S)
        asked = UNDER_WAY.c.tenant.in_(list(tenants))
        query = select(UNDER_WAY.c.tenant, func.sum(UNDER_WAY.c.n)).where(elsewhere & asked)
        rows = connection.execute(query.group_by(UNDER_WAY.c.tenant))
        return {tenant: int(n) for tenant, n in rows}

    def leave(self, connection: Connection, gateway: str, now_s: float) -> None:
        """This gateway has nothing under way any more; nor have those that died."""
        gone = (UNDER_WAY.c.gateway == gateway) | (UNDER_WAY.c.as_of_s < now_s - STALE_S)
        connection.execute(delete(UNDER_WAY).where(gone))
