"""The text of a profile: TOML in, TOML out, the same text for the same profile."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from difflib import get_close_matches
from typing import Any

from fairlead.latency.accuracy import FitError
from fairlead.latency.coefficients import closed_form
from fairlead.latency.profile import Profile
from fairlead.model import ConfigError

_TEXTS = ("name", "gpu", "model", "precision", "source", "licence", "host_source", "note")
_COUNTS = (
    "tensor_parallel",
    "gpu_memory_bytes",
    "weights_bytes",
    "kv_bytes_per_token",
    "max_context",
)


def format_profile(profile: Profile) -> str:
    """The profile as TOML that `parse_profile` reads back: numbers to seven digits."""
    lines = [f"{key} = {_quoted(getattr(profile, key))}" for key in _TEXTS[:4]]
    lines += [f"{key} = {getattr(profile, key)}" for key in _COUNTS]
    if profile.price_per_hour is not None:
        lines.append(f"price_per_hour = {_number(profile.price_per_hour)}")
    lines += [f"{key} = {_quoted(getattr(profile, key))}" for key in _TEXTS[4:]]
    for name in ("coefficients", "added"):
        numbers = getattr(profile, name)
        lines += ["", f"[{name}]", *(f"{key} = {_number(x)}" for key, x in numbers.items())]
    for phase, error in profile.errors.items():
        lines += ["", f"[errors.{phase}]", *_error_lines(error)]
    if profile.end_to_end is not None:
        lines += ["", "[end_to_end]", *_error_lines(profile.end_to_end)]
    return "\n".join(lines) + "\n"


def _error_lines(error: FitError) -> list[str]:
    return [
        f"mean_abs_pct = {error.mean_abs_pct:.2f}",
        f"p95_abs_pct = {error.p95_abs_pct:.2f}",
        f"bias_pct = {error.bias_pct:.2f}",
        f"n_points = {error.n_points}",
    ]


def _number(value: float) -> str:
    text = f"{value:.7g}"
    return text if any(mark in text for mark in ".en") else f"{text}.0"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def parse_profile(text: str, origin: str) -> Profile:
    """The profile that `text` describes; `origin` names it in messages. Raises ConfigError that
    lists every problem."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"latency profile {origin!r} is not TOML: {error}") from None
    problems = _key_problems(table) + _type_problems(table)
    errors = _errors(table.get("errors", {}), problems)
    end_to_end = _error("end_to_end", table.get("end_to_end"), problems)
    for name in ("coefficients", "added"):
        if name in table and not isinstance(table[name], dict):
            problems.append(f"{name} must be a table of numbers")
    problems += _coefficient_problems(table)
    if problems:
        raise ConfigError(f"latency profile {origin!r}: {'; '.join(problems)}")
    rest = {"added": table.get("added", {}), "errors": errors, "end_to_end": end_to_end}
    return Profile(**{**table, **rest})


def _key_problems(table: Mapping[str, Any]) -> list[str]:
    names = [f.name for f in fields(Profile)]
    optional = {f.name for f in fields(Profile) if f.default is not MISSING}
    optional |= {"added", "errors", "end_to_end"}
    problems = []
    for key in table:
        if key not in names:
            near = get_close_matches(key, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
            problems.append(f"{key!r} is not known, {hint}")
    problems += [f"{key} is missing" for key in names if key not in table and key not in optional]
    return problems


def _type_problems(table: Mapping[str, Any]) -> list[str]:
    problems = [
        f"{key} is {table[key]!r}, must be text"
        for key in _TEXTS
        if key in table and not isinstance(table[key], str)
    ]
    problems += [
        f"{key} is {table[key]!r}, must be a whole number above 0"
        for key in _COUNTS
        if key in table and not (type(table[key]) is int and table[key] > 0)
    ]
    price = table.get("price_per_hour", 0.0)
    if type(price) not in (int, float) or not 0 <= price < float("inf"):
        problems.append(f"price_per_hour is {price!r}, must be a number, 0 or more")
    return problems


def _coefficient_problems(table: Mapping[str, Any]) -> list[str]:
    coefficients, added = _table(table.get("coefficients")), _table(table.get("added"))
    stray = [f"added.{key} adds to no coefficient" for key in added if key not in coefficients]
    try:
        closed_form(coefficients)
    except ConfigError as error:
        return [str(error), *stray]
    return stray


def _errors(table: Any, problems: list[str]) -> dict[str, FitError]:
    found = {key: _error(f"errors.{key}", part, problems) for key, part in _table(table).items()}
    return {key: error for key, error in found.items() if error is not None}


def _error(name: str, table: Any, problems: list[str]) -> FitError | None:
    if table is None:
        return None
    names = [f.name for f in fields(FitError)]
    given = _table(table)
    if sorted(given) != sorted(names) or not all(type(v) in (int, float) for v in given.values()):
        problems.append(f"{name} must hold the numbers {', '.join(names)}")
        return None
    return FitError(**given)


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
