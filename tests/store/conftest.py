"""Databases to test with: an SQLite file, and a PostgreSQL server where there is one."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.store.database import Database
from tests.patience import PATIENCE_S

PLACES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
KINDS = ("sqlite", "postgresql")


def _tool(name: str) -> str | None:
    found = [str(place / name) for place in reversed(PLACES) if (place / name).exists()]
    return shutil.which(name) or (found[0] if found else None)


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server of our own, without a port: a socket in a folder."""
    initdb, pg_ctl = _tool("initdb"), _tool("pg_ctl")
    pytest.importorskip("psycopg", reason="PostgreSQL is tested where psycopg is installed")
    if initdb is None or pg_ctl is None:
        pytest.skip("PostgreSQL is tested where initdb and pg_ctl are installed")
    # A path of its own: the name of a socket has at most about a hundred letters.
    folder = Path("/tmp") / f"fairlead-pg-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    before: list[str] = []
    if os.getuid() == 0:  # The server does not run as root.
        if shutil.which("runuser") is None:
            pytest.skip("PostgreSQL does not run as root, and there is no runuser")
        shutil.chown(folder, "postgres")
        before = ["runuser", "-u", "postgres", "--"]
    data = str(folder / "data")
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
    setup = ["-D", data, "-U", "fairlead", "-A", "trust", "--no-sync"]
    try:
        _do([*before, initdb, *setup])
        _do([*before, pg_ctl, "-D", data, "-w", "-o", options, "-l", f"{folder}/log", "start"])
        yield f"postgresql://fairlead@/postgres?host={folder}"
        _do([*before, pg_ctl, "-D", data, "-m", "immediate", "stop"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _do(command: list[str]) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, cwd="/", timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(params=KINDS)
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What `Database` is given, for an empty one of each kind."""
    return empty_database(request, tmp_path)


def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of the kind that the fixture's parameter says."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return str(tmp_path / "fairlead.db")
    server = request.getfixturevalue("postgresql")
    import psycopg

    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"create database {name}")
    return str(server).replace("/postgres?", f"/{name}?")


@pytest.fixture
def database(where: str) -> Iterator[Database]:
    database = Database(where)
    yield database
    database.close()
