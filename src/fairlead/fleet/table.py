"""Turns one table of a configuration file into a frozen dataclass, with messages for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from fairlead.model import ConfigError
from fairlead.policies.registry import suggest

T = TypeVar("T")


def read_table(kind: type[T], table: object, where: str) -> T:
    """An instance of the dataclass `kind`; keys that are absent take its defaults.

    Raises one `ConfigError` that lists every unknown key and every value of a wrong type.
    """
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where} must be a table, got {table!r}")
    hints = get_type_hints(kind)
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    problems = []
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            problems.append(f"{where} has no key {key!r}{suggest(str(key), known)}")
        elif not _fits(value, hints[key]):
            problems.append(f"{where}.{key} must be {_say(hints[key])}, got {value!r}")
        else:
            values[key] = _convert(value, hints[key])
    if problems:
        raise ConfigError("; ".join(problems))
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) is UnionType else (hint,)


def _fits(value: object, hint: Any) -> bool:
    return any(_fits_one(value, one) for one in _alternatives(hint))


def _fits_one(value: object, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is tuple:
        return isinstance(value, list | tuple) and all(_fits(v, get_args(hint)[0]) for v in value)
    if origin is not None:
        return isinstance(value, Mapping)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _convert(value: Any, hint: Any) -> Any:
    kinds = _alternatives(hint)
    if float in kinds and isinstance(value, int) and int not in kinds:
        return float(value)
    if isinstance(value, list):
        return tuple(value)
    return value


_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def _say(hint: Any) -> str:
    words = []
    for kind in _alternatives(hint):
        if kind is NoneType:
            continue
        if get_origin(kind) is tuple:
            words.append("a list")
        elif get_origin(kind) is not None:
            words.append("a table")
        else:
            words.append(_WORDS.get(kind, kind.__name__))
    return " or ".join(words)
