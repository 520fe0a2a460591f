"""Answers that must be calls: what they may look like, in the grammar that engines follow.

It is Lark as llguidance reads it. Each function's schema stands for itself in it, so that its
references stay its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from fairlead.gateway.tools.fields import Function
from fairlead.text.call_format import SHAPES, CallFormat

MAX_CALLS = 8
"""Where an answer may hold several: a model that will not stop must not fill its context."""
_LAYOUT = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
"""As chat templates write JSON, and as models have read it."""


def calls_grammar(
    format: CallFormat, functions: Sequence[Function], *, only_one: bool, else_schema: str = ""
) -> str:
    """The whole answer is calls of `functions`; or, with `else_schema`, JSON that obeys it."""
    shape = SHAPES[format]
    several = format is CallFormat.HERMES and not only_one
    more = f" ({_text(shape.separator)} call){{0,{MAX_CALLS - 1}}}" if several else ""
    rules = [
        f"start: calls{' | answer' if else_schema else ''}",
        f"calls: call{more}",
        "call: " + " | ".join(f"call_{k}" for k in range(len(functions))),
    ]
    for k, function in enumerate(functions):
        begin, end = shape.begin(f'"{function.name}"'), shape.closing
        rules.append(f"call_{k}: {_text(begin)} args_{k} {_text(end)}")
        rules.append(f"args_{k}: %json {_json(_arguments(function))}")
    if else_schema:
        rules.append(f"answer: %json {_json(msgspec.json.decode(else_schema))}")
    return "\n".join(rules) + "\n"


def _arguments(function: Function) -> dict[str, Any]:
    if not function.parameters:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    return {"type": "object", **function.parameters}


def _json(schema: dict[str, Any]) -> str:
    return msgspec.json.encode({**schema, "x-guidance": _LAYOUT}).decode()


def _text(text: str) -> str:
    """A literal; what is written here has no need of more than JSON's escapes."""
    return msgspec.json.encode(text).decode()
