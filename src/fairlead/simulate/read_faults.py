"""Reads a `FAULTS.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from fairlead.fleet.table import read_table
from fairlead.model import ConfigError
from fairlead.policies.registry import suggest
from fairlead.simulate.faults import (
    Burst,
    Death,
    Faults,
    GatewayRestart,
    HangUp,
    Leave,
    Messages,
    Partition,
    Slow,
    Stall,
)

KINDS: Mapping[str, type[Any]] = {
    "death": Death,
    "leave": Leave,
    "stall": Stall,
    "slow": Slow,
    "partition": Partition,
    "messages": Messages,
    "gateway_restart": GatewayRestart,
    "hang_up": HangUp,
    "burst": Burst,
}


def read_faults(path: Path) -> Faults:
    """The faults that a file describes. Raises `ConfigError` for all that is wrong with it."""
    try:
        tables = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a TOML file: {error}.") from error
    try:
        return make_faults(tables)
    except ConfigError as error:
        problems = str(error).splitlines()
        raise ConfigError("\n".join(f"{path}: {problem}" for problem in problems)) from error


def make_faults(tables: Mapping[str, Any]) -> Faults:
    """The same from tables. Raises `ConfigError`."""
    problems: list[str] = []
    found: dict[str, tuple[Any, ...]] = {}
    for name, given in tables.items():
        if name not in KINDS:
            problems.append(f"no fault is called {name!r}{suggest(name, list(KINDS))}")
        elif not isinstance(given, list):
            problems.append(f"{name} is written as [[{name}]], once for each")
        else:
            found[name] = _read_all(name, given, problems)
    if problems:
        raise ConfigError("\n".join(problems))
    return Faults(**found)


def _read_all(name: str, tables: list[object], problems: list[str]) -> tuple[Any, ...]:
    faults = []
    for i, table in enumerate(tables, start=1):
        try:
            faults.append(_read_one(KINDS[name], table, f"{name} {i}"))
        except ConfigError as error:
            problems.append(str(error))
    return tuple(faults)


def _read_one(kind: type[Any], table: object, where: str) -> Any:
    if isinstance(table, Mapping):
        known = {field.name: field.default for field in fields(kind)}
        missing = [name for name, default in known.items() if default is MISSING]
        missing = [name for name in missing if name not in table]
        if missing:
            unknown = [f"; it has no key {key!r}" for key in table if key not in known]
            raise ConfigError(f"{where} must say {' and '.join(missing)}{''.join(unknown)}")
    return read_table(kind, table, where)
