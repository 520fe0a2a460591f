"""Where the tenants are: the `[tenants]` table of a fleet file, or a flag."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairlead.cli.fleet_file import read_fleet_file
from fairlead.fleet.table import read_table
from fairlead.gateway.tenants.config import TenantsConfig
from fairlead.model import ConfigError

if TYPE_CHECKING:
    from fairlead.store.database import Database


def add_arguments(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--fleet", metavar="FLEET.toml", type=Path, help="the fleet file, with its [tenants] table"
    )
    where.add_argument(
        "--database", metavar="FILE|URL", help="the database itself: a file, or postgresql://…"
    )


def database_of(args: argparse.Namespace) -> Database:
    """The one that the arguments name; its tables are made where there are none."""
    if args.database is not None:
        return open_database(TenantsConfig(database=args.database or " "))
    config, _ = read_fleet_file(args.fleet)
    if not config.tenants:
        raise ConfigError(
            f"{args.fleet} has no [tenants] table; add one, such as\n"
            '[tenants]\ndatabase = "fairlead.db"'
        )
    return open_database(read_tenants(config.tenants))


def read_tenants(table: Mapping[str, Any]) -> TenantsConfig:
    return read_table(TenantsConfig, table, "tenants")


def open_database(settings: TenantsConfig) -> Database:
    """Raises `ConfigError`."""
    return open_at(database_place(settings), "tenants")


def database_place(settings: TenantsConfig) -> str:
    """A file, or a URL."""
    return settings.database or _read(settings.database_file)


def open_at(place: str, who: str) -> Database:
    """Raises `ConfigError`; `who` needs it."""
    try:
        from fairlead.store.database import Database
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{who} need {error.name}, which is not installed: pip install 'fairlead[{who}]'"
        ) from error
    return Database(place)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"tenants.database_file {path}: {error.strerror}") from None
