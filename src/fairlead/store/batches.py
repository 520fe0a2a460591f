"""Files and batches in the database; who runs which batch, and how far it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Table, delete, func, insert, or_, select, update

from fairlead.store.batch import (
    CANCELLING,
    OPEN,
    RUNNING,
    VALIDATING,
    Batch,
    Checkpoint,
    StoredFile,
)
from fairlead.store.database import Database
from fairlead.store.schema import BATCHES, FILES

NOTHING_ELSE: Mapping[str, Any] = {}


class BatchStore:
    """Blocking; every method raises `StoreError` where the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def close(self) -> None:
        self._database.close()

    # ---------------------------------------------------------------- files

    def add_file(self, file: StoredFile) -> None:
        with self._database.begin() as connection:
            connection.execute(insert(FILES).values(**asdict(file)))

    def file(self, tenant: str, id: str) -> StoredFile | None:
        with self._database.begin() as connection:
            rows = connection.execute(select(FILES).where(_own(FILES, tenant, id))).mappings()
            return next((StoredFile(**row) for row in rows), None)

    def files(self, tenant: str, purpose: str | None, after: str, limit: int) -> list[StoredFile]:
        """Newest first, from behind `after` on; one more than `limit`, where there are more."""
        query = select(FILES).where(FILES.c.tenant == tenant)
        if purpose is not None:
            query = query.where(FILES.c.purpose == purpose)
        with self._database.begin() as connection:
            query = _page(connection, query, FILES, tenant, after, limit)
            return [StoredFile(**row) for row in connection.execute(query).mappings()]

    def known_files(self, ids: Collection[str]) -> set[str]:
        """Which of these there are, whosever they are."""
        query = select(FILES.c.id).where(FILES.c.id.in_(ids))
        with self._database.begin() as connection:
            return {str(id) for id in connection.execute(query).scalars()}

    def used(self, tenant: str) -> tuple[int, int]:
        """How many files a tenant has, and their bytes."""
        query = select(func.count(), func.coalesce(func.sum(FILES.c.bytes), 0))
        with self._database.begin() as connection:
            n, size = connection.execute(query.where(FILES.c.tenant == tenant)).one()
        return int(n), int(size)

    def delete_file(self, tenant: str, id: str) -> str | None:
        """Forgets a file. Returns the batch that still reads it, where one does: then it stays."""
        reads = (BATCHES.c.input_file == id) & BATCHES.c.status.in_(OPEN)
        with self._database.begin() as connection:
            batch = connection.execute(select(BATCHES.c.id).where(reads).limit(1)).scalar()
            if batch is None:
                connection.execute(delete(FILES).where(_own(FILES, tenant, id)))
        return batch

    # ---------------------------------------------------------------- clients' side of batches

    def add_batch(self, batch: Batch) -> None:
        with self._database.begin() as connection:
            connection.execute(insert(BATCHES).values(**asdict(batch)))

    def batch(self, tenant: str, id: str) -> Batch | None:
        with self._database.begin() as connection:
            rows = connection.execute(select(BATCHES).where(_own(BATCHES, tenant, id))).mappings()
            return next((_batch(row) for row in rows), None)

    def batches(self, tenant: str, after: str, limit: int) -> list[Batch]:
        """As `files`."""
        query = select(BATCHES).where(BATCHES.c.tenant == tenant)
        with self._database.begin() as connection:
            query = _page(connection, query, BATCHES, tenant, after, limit)
            return [_batch(row) for row in connection.execute(query).mappings()]

    def n_open(self, tenant: str) -> int:
        query = select(func.count()).where(
            (BATCHES.c.tenant == tenant) & BATCHES.c.status.in_(OPEN)
        )
        with self._database.begin() as connection:
            return int(connection.execute(query).scalar_one())

    def ask_to_cancel(self, tenant: str, id: str, now_s: float) -> bool:
        """False where it is too late."""
        cancellable = BATCHES.c.status.in_((VALIDATING, RUNNING))
        where = _own(BATCHES, tenant, id) & cancellable
        with self._database.begin() as connection:
            times = connection.execute(select(BATCHES.c.times).where(where)).scalar()
            if times is None:
                return False
            change = update(BATCHES).where(where)
            values = {"status": CANCELLING, "times": {**times, CANCELLING: now_s}}
            return connection.execute(change.values(**values)).rowcount > 0

    # ---------------------------------------------------------------- gateways' side

    def claimable(self, now_s: float, host: str) -> list[Batch]:
        """Open batches, oldest first, that no other host has a lease on."""
        free = or_(BATCHES.c.owner == "", BATCHES.c.lease_s < now_s, BATCHES.c.owner_host == host)
        query = select(BATCHES).where(BATCHES.c.status.in_(OPEN) & free)
        with self._database.begin() as connection:
            rows = connection.execute(query.order_by(BATCHES.c.created_s, BATCHES.c.id))
            return [_batch(row) for row in rows.mappings()]

    def claim(self, batch: Batch, owner: str, host: str, lease_s: float) -> Batch | None:
        """The batch as it is now, if it is this gateway's from now on: nobody took it since
        `batch` was read."""
        as_read = (BATCHES.c.owner == batch.owner) & (BATCHES.c.lease_s == batch.lease_s)
        where = (BATCHES.c.id == batch.id) & as_read & BATCHES.c.status.in_(OPEN)
        with self._database.begin() as connection:
            change = update(BATCHES).where(where)
            values = {"owner": owner, "owner_host": host, "lease_s": lease_s}
            if connection.execute(change.values(**values)).rowcount == 0:
                return None
            rows = connection.execute(select(BATCHES).where(BATCHES.c.id == batch.id)).mappings()
            return next((_batch(row) for row in rows), None)

    def save(
        self, id: str, owner: str, checkpoint: Checkpoint | None, lease_s: float
    ) -> str | None:
        """How far it is; its lease is longer. Returns its status, which a client may have changed;
        None where it is this gateway's no more, and nothing was written."""
        values: dict[str, Any] = {"lease_s": lease_s}
        if checkpoint is not None:
            values |= {
                "checkpoint": asdict(checkpoint),
                "completed": checkpoint.completed,
                "failed": checkpoint.failed,
            }
        where = (BATCHES.c.id == id) & (BATCHES.c.owner == owner)
        with self._database.begin() as connection:
            changed = connection.execute(update(BATCHES).where(where).values(**values))
            if changed.rowcount == 0:
                return None
            query = select(BATCHES.c.status).where(BATCHES.c.id == id)
            return str(connection.execute(query).scalar_one())

    def enter(
        self,
        id: str,
        owner: str,
        was: Sequence[str],
        status: str,
        now_s: float,
        values: Mapping[str, Any] = NOTHING_ELSE,
    ) -> bool:
        """It comes to a status from one of those; False where it is not in any of them, or another
        gateway's."""
        where = (BATCHES.c.id == id) & (BATCHES.c.owner == owner) & BATCHES.c.status.in_(was)
        with self._database.begin() as connection:
            times = connection.execute(select(BATCHES.c.times).where(where)).scalar()
            if times is None:
                return False
            new = {**values, "status": status, "times": {**times, status: now_s}}
            return connection.execute(update(BATCHES).where(where).values(**new)).rowcount > 0

    def finish(
        self, id: str, owner: str, status: str, now_s: float, files: Sequence[StoredFile]
    ) -> bool:
        """It has ended, and its results are files."""
        where = (BATCHES.c.id == id) & (BATCHES.c.owner == owner) & BATCHES.c.status.in_(OPEN)
        with self._database.begin() as connection:
            times = connection.execute(select(BATCHES.c.times).where(where)).scalar()
            if times is None:
                return False
            values: dict[str, Any] = {"status": status, "times": {**times, status: now_s}}
            for file in files:
                connection.execute(insert(FILES).values(**asdict(file)))
                values["error_file" if file.id.endswith("-error") else "output_file"] = file.id
            values |= {"owner": "", "lease_s": 0.0}
            connection.execute(update(BATCHES).where(where).values(**values))
            return True

    def release(self, id: str, owner: str) -> None:
        """Another gateway may go on with it."""
        where = (BATCHES.c.id == id) & (BATCHES.c.owner == owner)
        with self._database.begin() as connection:
            connection.execute(update(BATCHES).where(where).values(owner="", lease_s=0.0))


def _own(table: Table, tenant: str, id: str) -> Any:
    return (table.c.tenant == tenant) & (table.c.id == id)


def _page(
    connection: Connection, query: Any, table: Table, tenant: str, after: str, limit: int
) -> Any:
    if after:
        place = select(table.c.created_s).where(_own(table, tenant, after))
        created_s = connection.execute(place).scalar()
        if created_s is not None:
            older = (table.c.created_s == created_s) & (table.c.id < after)
            query = query.where((table.c.created_s < created_s) | older)
    return query.order_by(table.c.created_s.desc(), table.c.id.desc()).limit(limit + 1)


def _batch(row: Any) -> Batch:
    values = dict(row)
    checkpoint = dict(values["checkpoint"])
    checkpoint["ahead"] = tuple(checkpoint["ahead"])
    values["checkpoint"] = Checkpoint(**checkpoint)
    values["errors"] = tuple(values["errors"])
    return Batch(**values)
