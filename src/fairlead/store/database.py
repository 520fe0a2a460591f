"""The database: where it is, and that its tables are those of this version."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)

from fairlead.model import ConfigError

StoreError = SQLAlchemyError
"""The database does not answer, or not as it should."""
MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x0FA1_51EA
"""PostgreSQL: gateways that start together bring the tables up to date one after the other."""
BUSY_MS = 10_000
"""SQLite: how long to wait for another process that writes."""


class Database:
    """An SQLite file (a path), or PostgreSQL (a URL such as postgresql://user@host/fairlead).

    Its tables are brought up to date when it is opened. Blocking: a gateway asks it from a thread.
    """

    def __init__(self, where: str) -> None:
        """Raises `ConfigError` where nothing can be opened there."""
        url = database_url(where)
        self.is_sqlite = url.startswith("sqlite")
        try:
            if self.is_sqlite:
                _make_private(url)
            self.engine: Engine = create_engine(url, pool_pre_ping=True)
            if self.is_sqlite:
                event.listen(self.engine, "connect", _set_up_sqlite)
            self._migrate()
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"a PostgreSQL database needs the package psycopg ({error}): "
                "pip install 'fairlead[postgres]'"
            ) from error
        except (ArgumentError, NoSuchModuleError, CommandError, DBAPIError, OSError) as error:
            raise ConfigError(f"cannot open the database {_shown(url)}: {_first(error)}") from error

    @contextlib.contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction."""
        with self.engine.begin() as connection:
            yield connection

    def insert(self, table: Any) -> Any:
        """An insert that knows what to do about conflicts."""
        if self.is_sqlite:
            from sqlalchemy.dialects import sqlite

            return sqlite.insert(table)
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)

    def close(self) -> None:
        self.engine.dispose()

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        with self.engine.connect() as connection:
            if not self.is_sqlite:
                connection.execute(text("select pg_advisory_lock(:n)"), {"n": MIGRATION_LOCK})
                connection.commit()
            try:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                connection.commit()
            finally:
                if not self.is_sqlite:
                    connection.rollback()
                    connection.execute(text("select pg_advisory_unlock(:n)"), {"n": MIGRATION_LOCK})
                    connection.commit()


def database_url(where: str) -> str:
    """What SQLAlchemy wants to hear: a path is an SQLite file."""
    scheme, colon, rest = where.partition("://")
    if not colon:
        if not where.strip():
            raise ConfigError("a database is a file, or a URL such as postgresql://user@host/name")
        return f"sqlite:///{where}"
    if scheme in ("postgresql", "postgres"):
        return f"postgresql+psycopg://{rest}"
    if scheme in ("sqlite", "postgresql+psycopg"):
        return where
    raise ConfigError(
        f"{scheme}:// is no database of ours; use a file (SQLite), or postgresql://user@host/name"
    )


def _make_private(url: str) -> None:
    """The file exists, and is readable to its owner alone."""
    path = make_url(url).database
    if path and path != ":memory:":
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def _set_up_sqlite(connection: Any, record: object) -> None:
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",  # Readers do not wait for a writer.
        "synchronous=NORMAL",  # Safe against the death of a process; of a machine, with WAL.
        f"busy_timeout={BUSY_MS}",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _shown(url: str) -> str:
    """Without the password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url.partition("://")[0]


def _first(error: BaseException) -> str:
    text = str(error.orig) if isinstance(error, OperationalError) else str(error)
    return text.strip().splitlines()[0] if text.strip() else type(error).__name__
