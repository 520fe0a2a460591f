"""What the answer must look like: `response_format` as one JSON Schema, within what an engine can
follow in the time that it has.

A schema runs in the engine between two tokens of everybody's answers. The bounds keep out those
that were measured to hold it up: a grammar library counts states, and some keywords multiply them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from fairlead.model import RequestError

ANY_OBJECT = '{"type":"object"}'
MAX_SCHEMA_BYTES = 32 * 1024
"""1,000 properties take 28 kB and 60 ms to read."""
MAX_PATTERN_PROPERTIES = 32
"""In all of the schema; 200 took two seconds."""
MAX_MULTIPLE = 10_000
"""All `multipleOf` of the schema multiplied, without powers of ten: their remainders are states
of one automaton."""


def output_schema(response_format: Mapping[str, Any] | None) -> str:
    """The JSON Schema that the answer must obey, as JSON; empty where it may be any text. Raises
    `RequestError`."""
    if response_format is None or response_format.get("type") == "text":
        return ""
    kind = response_format.get("type")
    if kind == "json_object":
        return ANY_OBJECT
    if kind != "json_schema":
        raise _wrong(f"type must be text, json_object or json_schema, got {kind!r}", "type")
    described = response_format.get("json_schema")
    schema = described.get("schema") if isinstance(described, dict) else None
    if not isinstance(schema, dict):
        raise _wrong("json_schema.schema must be a JSON Schema, as an object", _SCHEMA)
    return bounded(schema, "response_format: the schema", f"response_format.{_SCHEMA}")


def bounded(schema: dict[str, Any], what: str, param: str) -> str:
    """The schema as JSON. Raises `RequestError` where `what` is more than an engine can follow."""
    text = msgspec.json.encode(schema)
    if len(text) > MAX_SCHEMA_BYTES:
        raise _over(f"{what} has {len(text)} bytes, at most {MAX_SCHEMA_BYTES} work", param)
    multiple, n_patterns = 1, 0
    for part in _objects(schema):
        multiple *= _significant(part.get("multipleOf"))
        patterns = part.get("patternProperties")
        n_patterns += len(patterns) if isinstance(patterns, dict) else 0
    if multiple > MAX_MULTIPLE:
        raise _over(
            f"{what}: all its multipleOf multiplied may be {MAX_MULTIPLE}, without powers of ten;"
            " these are more",
            param,
        )
    if n_patterns > MAX_PATTERN_PROPERTIES:
        raise _over(f"{what} may have {MAX_PATTERN_PROPERTIES} patternProperties", param)
    return text.decode()


def _objects(value: object) -> Iterator[dict[str, Any]]:
    """Every object inside, whether it is a schema or not."""
    open_ = [value]
    while open_:
        value = open_.pop()
        if isinstance(value, dict):
            yield value
            open_ += value.values()
        elif isinstance(value, list):
            open_ += value


def _significant(multiple: object) -> int:
    """25 of 0.25 and of 2500."""
    if isinstance(multiple, bool) or not isinstance(multiple, int | float):
        return 1
    digits = Decimal(str(multiple)).normalize().as_tuple().digits
    return max(int("".join(map(str, digits))), 1)


_SCHEMA = "json_schema.schema"


def _over(message: str, param: str) -> RequestError:
    return RequestError(message, param=param, code="invalid_value")


def _wrong(message: str, field: str) -> RequestError:
    return RequestError(
        f"response_format: {message}", param=f"response_format.{field}", code="invalid_value"
    )
