"""The gateway's side of the database: one round trip now and then, in a thread, for everybody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fairlead.store.call_record import CallRecord
from fairlead.store.database import Database
from fairlead.store.shared_limits import SharedLimits, Spent
from fairlead.store.tenant import Key, Tenant
from fairlead.store.tenants import Tenants
from fairlead.store.usage import Usage


@dataclass(frozen=True, slots=True)
class Told:
    """What a gateway tells."""

    calls: Sequence[CallRecord]
    spent: Sequence[Spent]
    under_way: Mapping[str, int]
    """By tenant."""
    budget_days: Mapping[str, int]
    """By tenant with a budget, the day on which its period began."""
    seen: int
    """Changes of tenants and keys that it knows."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What it hears."""

    used: Sequence[float]
    """By all gateways, for each of `Told.spent`."""
    elsewhere: Mapping[str, int]
    """Answers under way at other gateways, by tenant."""
    budgets: Mapping[str, int]
    """Tokens of the period, by tenant."""
    changed: tuple[int, list[Tenant], list[Key]] | None
    """All tenants and keys, where any of them changed."""


class Books:
    """Blocking; every method raises `StoreError` where it does not answer."""

    def __init__(self, database: Database, gateway: str) -> None:
        """`gateway` is a name that no other has."""
        self._database = database
        self._gateway = gateway
        self._tenants = Tenants(database)
        self._limits = SharedLimits(database)
        self.usage = Usage(database)

    def write(self, calls: Sequence[CallRecord]) -> None:
        with self._database.begin() as connection:
            self.usage.write(connection, calls)

    def exchange(self, told: Told, now_s: float) -> Heard:
        """Everything in one transaction, so that a call is in the ledger and in no budget twice."""
        used: list[float] = []
        elsewhere: Mapping[str, int] = {}
        budgets: Mapping[str, int] = {}
        if told.calls or told.spent or told.under_way or told.budget_days:
            with self._database.begin() as connection:
                if told.calls:
                    self.usage.write(connection, told.calls)
                used = [self._limits.spend(connection, one, now_s) for one in told.spent]
                self._limits.tell_under_way(connection, self._gateway, told.under_way, now_s)
                elsewhere = self._limits.under_way_elsewhere(
                    connection, self._gateway, told.under_way, now_s
                )
                budgets = self.usage.tokens_since(connection, told.budget_days)
        return Heard(used, elsewhere, budgets, self._tenants.read_if_changed(told.seen))

    def leave(self, now_s: float) -> None:
        with self._database.begin() as connection:
            self._limits.leave(connection, self._gateway, now_s)

    def close(self) -> None:
        self._database.close()
