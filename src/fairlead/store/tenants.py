"""Tenants and keys in the database: what `fairlead keys` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, select, update

from fairlead.model import ConfigError
from fairlead.policies.registry import suggest
from fairlead.store.database import Database
from fairlead.store.schema import CHANGES, KEYS, TENANTS
from fairlead.store.secret import new_key
from fairlead.store.tenant import Key, Role, Tenant, make_tenant

WHAT = "tenants"
"""The row of `changes` that counts ours."""


class Tenants:
    """Times are handed in: seconds since 1970."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ---------------------------------------------------------------- reading

    def tenants(self) -> list[Tenant]:
        """All, by name."""
        with self._database.begin() as connection:
            return _tenants(connection)

    def tenant(self, name: str) -> Tenant:
        """Raises `ConfigError` where there is none."""
        known = {tenant.name: tenant for tenant in self.tenants()}
        if name not in known:
            raise ConfigError(f"no tenant is called {name!r}{suggest(name, list(known))}")
        return known[name]

    def keys(self, tenant: str | None = None) -> list[Key]:
        """In the order in which they were made, revoked ones too."""
        with self._database.begin() as connection:
            found = _keys(connection)
        return [key for key in found if tenant in (None, key.tenant)]

    def read_if_changed(self, seen: int) -> tuple[int, list[Tenant], list[Key]] | None:
        """Everything, and how many changes there have been; None where those were seen."""
        with self._database.begin() as connection:
            query = select(CHANGES.c.n).where(CHANGES.c.what == WHAT)
            n: int = connection.execute(query).scalar() or 0
            return None if n == seen else (n, _tenants(connection), _keys(connection))

    # ---------------------------------------------------------------- changing

    def put(self, name: str, settings: Mapping[str, Any], now_s: float) -> Tenant:
        """Makes the tenant where there is none, and changes what is said. A setting that is None
        goes back to its default."""
        with self._database.begin() as connection:
            _count(self._database, connection)
            query = select(TENANTS.c.settings).where(TENANTS.c.name == name)
            before: dict[str, Any] = connection.execute(query).scalar() or {}
            given = {k: v for k, v in {**before, **settings}.items() if v is not None}
            tenant = make_tenant(name, given)
            row = {"name": name, "settings": tenant.settings(), "created_s": now_s}
            put = self._database.insert(TENANTS).values(**row)
            settings_now = {"settings": row["settings"]}
            connection.execute(
                put.on_conflict_do_update(index_elements=["name"], set_=settings_now)
            )
        return tenant

    def create_key(
        self,
        tenant: str,
        now_s: float,
        *,
        role: Role = Role.USER,
        label: str = "",
        expires_s: float | None = None,
    ) -> tuple[str, Key]:
        """The key itself, which nobody can tell again, and its record. Raises `ConfigError` where
        there is no such tenant."""
        self.tenant(tenant)
        id, secret, digest = new_key()
        key = Key(id, tenant, role, digest, label, now_s, expires_s)
        with self._database.begin() as connection:
            _count(self._database, connection)
            row = {
                "id": id,
                "tenant": tenant,
                "role": role.value,
                "digest": digest,
                "label": label,
                "created_s": now_s,
                "expires_s": expires_s,
            }
            connection.execute(self._database.insert(KEYS).values(**row))
        return secret, key

    def revoke(self, ids: Sequence[str], now_s: float) -> list[Key]:
        """From now on these keys are refused. Raises `ConfigError`, and changes nothing, where one
        of them does not exist."""
        known = {key.id: key for key in self.keys()}
        for id in ids:
            if id not in known:
                raise ConfigError(f"no key has the id {id!r}{suggest(id, list(known))}")
        with self._database.begin() as connection:
            _count(self._database, connection)
            valid = KEYS.c.id.in_(ids) & KEYS.c.revoked_s.is_(None)
            connection.execute(update(KEYS).where(valid).values(revoked_s=now_s))
        return [known[id] for id in ids]


def _count(database: Database, connection: Connection) -> None:
    """Gateways will look. The first statement of a change: it waits for other writers."""
    put = database.insert(CHANGES).values(what=WHAT, n=1)
    connection.execute(
        put.on_conflict_do_update(index_elements=["what"], set_={"n": CHANGES.c.n + 1})
    )


def _tenants(connection: Connection) -> list[Tenant]:
    rows = connection.execute(select(TENANTS).order_by(TENANTS.c.name)).mappings()
    return [make_tenant(row["name"], row["settings"]) for row in rows]


def _keys(connection: Connection) -> list[Key]:
    rows = connection.execute(select(KEYS).order_by(KEYS.c.created_s, KEYS.c.id)).mappings()
    return [_key(row) for row in rows]


def _key(row: RowMapping) -> Key:
    return Key(
        row["id"],
        row["tenant"],
        Role(row["role"]),
        bytes(row["digest"]),
        row["label"],
        row["created_s"],
        row["expires_s"],
        row["revoked_s"],
    )
