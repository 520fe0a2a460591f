"""Where a database is, and that migrations make what the code expects."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from fairlead.model import ConfigError
from fairlead.store.database import Database, database_url
from fairlead.store.schema import METADATA


def test_the_migrations_make_the_schema(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, METADATA) == []


def test_it_can_be_opened_again_and_by_two_at_once(database: Database, where: str) -> None:
    other = Database(where)
    with other.begin() as connection:
        assert connection.exec_driver_sql("select count(*) from tenants").scalar() == 0
    other.close()


def test_a_file_with_keys_is_readable_to_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    Database(str(path)).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("where", "url"),
    [
        ("a.db", "sqlite:///a.db"),
        ("/x/a.db", "sqlite:////x/a.db"),
        ("postgresql://u@h/d", "postgresql+psycopg://u@h/d"),
        ("postgres://u@h/d", "postgresql+psycopg://u@h/d"),
    ],
)
def test_a_path_is_sqlite_and_a_url_says_what_it_is(where: str, url: str) -> None:
    assert database_url(where) == url


@pytest.mark.parametrize("where", ["", " ", "mysql://h/d", "/no/such/folder/a.db"])
def test_what_cannot_be_opened_is_told(where: str) -> None:
    with pytest.raises(ConfigError):
        Database(where)


def test_a_password_is_in_no_message() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(ConfigError) as told:
        Database("postgresql://user:hunter2@127.0.0.1:1/x")
    assert "hunter2" not in str(told.value)
    assert "127.0.0.1:1" in str(told.value)
