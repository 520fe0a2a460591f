"""Reads a fleet file, with `--set key=value` on top."""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairlead.fleet.config import FleetConfig, read_config
from fairlead.model import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("fleet", metavar="FLEET.toml", type=Path, help="the fleet file")
    add_set(parser)


def add_set(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="changes one value of the file, such as policy.routing=round-robin or "
        "pool.0.instances=4; may be given again",
    )


def read_fleet_file(path: Path, changes: Sequence[str] = ()) -> tuple[FleetConfig, dict[str, Any]]:
    """The fleet, and the tables it was made of with the changes in them."""
    tables = read_tables(path)
    for change in changes:
        apply_change(tables, change)
    try:
        return read_config(tables), tables
    except ConfigError as error:
        raise ConfigError("\n".join(f"{path}: {line}" for line in str(error).split("\n"))) from None


def read_tables(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist; examples/laptop.toml is one to start from"
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def apply_change(tables: dict[str, Any], change: str) -> None:
    """`policy.routing=round-robin`, `pool.0.instances=4`."""
    key, sign, text = change.partition("=")
    *path, last = key.split(".")
    if not sign or not all([*path, last]):
        raise ConfigError(f"--set {change!r} is not KEY=VALUE, such as policy.routing=round-robin")
    at: Any = tables
    for word in path:
        if isinstance(at, list):
            at = _item(at, word, change)
        elif isinstance(at, dict):
            at = at.setdefault(word, {})
        else:
            raise ConfigError(f"--set {change!r}: {word!r} lies inside a plain value")
    if isinstance(at, list):
        raise ConfigError(f"--set {change!r}: name one of the tables, such as {path[-1]}.0.{last}")
    at[last] = _value(text)


def _item(tables: list[Any], word: str, change: str) -> Any:
    """A pool by its position or by its name."""
    for i, table in enumerate(tables):
        if word == str(i) or (isinstance(table, dict) and table.get("name") == word):
            return table
    raise ConfigError(f"--set {change!r}: there is no {word!r}; there are {len(tables)}, from 0")


def _value(text: str) -> Any:
    """As TOML would read it; what TOML cannot read is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
