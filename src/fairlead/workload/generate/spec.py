"""What users write for something that is drawn: `gamma:rate=5,cv=2`, or a plain number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from difflib import get_close_matches
from typing import Any, TypeVar

from fairlead.model import ConfigError

Made = TypeVar("Made")


def parse(
    what: str, text: str, kinds: Mapping[str, type[Made]], given: Mapping[str, float] | None = None
) -> Made:
    """One of `kinds` from `NAME:key=value,…`. `what` is the flag, for messages; `given` are values
    that were said elsewhere, and not in the text, too. Raises `ConfigError`."""
    name, _, rest = text.partition(":")
    kind = kinds.get(name.strip())
    if kind is None:
        raise ConfigError(f"{what} {text!r}: {_unknown(name.strip(), kinds)}")
    known = {one.name: one for one in fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {key: value for key, value in (given or {}).items() if key in known}
    for part in filter(None, rest.split(",")):
        key, sign, value = (word.strip() for word in part.partition("="))
        if not sign:
            raise ConfigError(f"{what} {text!r}: {part!r} is not KEY=VALUE, as in {_example(kind)}")
        if key not in known:
            raise ConfigError(f"{what} {text!r}: {_unknown(key, known)}")
        number = _number(what, text, key, value)
        if key in values and values[key] != number:
            raise ConfigError(
                f"{what} {text!r}: {key} is {number:g} here, and {values[key]:g} elsewhere on the "
                "command line; leave one of them out"
            )
        values[key] = number
    missing = [key for key, one in known.items() if one.default is MISSING and key not in values]
    if missing:
        raise ConfigError(
            f"{what} {text!r}: {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} "
            f"missing, as in {_example(kind)}"
        )
    try:
        return kind(**values)
    except ValueError as error:
        raise ConfigError(f"{what} {text!r}: {error}") from error


def text_of(made: object, kinds: Mapping[str, type[Any]]) -> str:
    """What a user would write for it."""
    name = next(name for name, kind in kinds.items() if type(made) is kind)
    values = [(one, getattr(made, one.name)) for one in fields(made)]  # type: ignore[arg-type]
    said = [f"{one.name}={value:g}" for one, value in values if value != one.default]
    return f"{name}:{','.join(said)}"


def above_0(**values: float) -> None:
    """Raises `ValueError` where one of them is not a number above 0."""
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} must be a number above 0, got {value:g}")


def _number(what: str, text: str, key: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        message = f"{what} {text!r}: {key} is {value!r}, expected a number"
        raise ConfigError(message) from None


def _unknown(name: str, known: Mapping[str, object]) -> str:
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"{name!r} is not known; expected one of {', '.join(known)}.{hint}"


def _example(kind: type[object]) -> str:
    return str(getattr(kind, "EXAMPLE", kind.__name__))
