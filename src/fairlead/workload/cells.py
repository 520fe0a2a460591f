"""What a cell of a trace may hold, and what it says."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fairlead.workload.row import IdRuns

MOST_TOKENS = 100_000_000
"""A longer prompt or output is a mistake of the file: a hundred times the longest context."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a row beside its lengths and its arrival."""

    name: str
    read: Callable[[str, object], object]
    default: object = None

    def value_of(self, name: str, value: object) -> object:
        """Of one cell. Raises `ValueError`."""
        empty = _empty(value) if self.read is _text else is_nothing(value)
        return self.default if empty else self.read(name, value)


def absurd(name: str) -> str:
    return f"{name} is above {MOST_TOKENS:,}"


def _empty(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def is_nothing(value: object) -> bool:
    """An empty cell of a column of numbers, or one that spells its emptiness out."""
    return _empty(value) or (isinstance(value, str) and value.strip().lower() in _NOTHING)


_NOTHING = ("", "nan", "na", "null", "none")


def number_of(name: str, value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} is {_shown(value)}, expected a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} is {_shown(value)}, expected a finite number")
    return number


def whole_of(name: str, value: object) -> int:
    if type(value) is int:
        return value
    number = number_of(name, value)
    if number != int(number):
        raise ValueError(f"{name} is {_shown(value)}, expected a whole number")
    return int(number)


def _text(name: str, value: object) -> str:
    return str(value)


def _ids(name: str, value: object) -> tuple[int, ...]:
    if isinstance(value, tuple):
        return value
    if isinstance(value, str):  # a CSV cell such as "[1, 2, 3]" or "1 2 3"
        value = value.strip("[] ").replace(",", " ").split()
    if not isinstance(value, list):
        raise ValueError(f"{name} is {_shown(value)}, expected a list of whole numbers")
    try:
        return tuple(map(int, value))
    except (TypeError, ValueError, OverflowError):
        message = f"{name} is {_shown(value)}, expected a list of whole numbers"
        raise ValueError(message) from None


def _runs(name: str, value: object) -> IdRuns:
    numbers = _ids(name, value)
    if len(numbers) % 2:
        raise ValueError(f"{name} holds pairs (first id, count), but has an odd length")
    if any(n < 0 for n in numbers[1::2]) or sum(numbers[1::2]) > MOST_TOKENS:
        raise ValueError(f"{name} holds pairs (first id, count), with an impossible count")
    return IdRuns(numbers)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


FIELDS: Mapping[str, Field] = {
    "session_id": Field("session_id", _text),
    "turn": Field("turn", whole_of),
    "agent_id": Field("agent_id", _text),
    "model": Field("model", _text, ""),
    "client_id": Field("tenant", _text, ""),
    "category": Field("category", _text, ""),
    "priority": Field("priority", whole_of),
    "session_t_s": Field("session_t_s", number_of),
    "tool_gap_s": Field("tool_gap_s", number_of),
    "src_e2e_s": Field("src_e2e_s", number_of),
    "hash_ids": Field("hash_ids", _ids, ()),
    "hash_runs": Field("hash_ids", _runs, ()),
}
"""Name in the common schema to field of a row and how its value is read."""
