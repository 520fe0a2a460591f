"""Answers that must be calls, or may become some: what they may look like, in the grammar that
engines follow.

It is Lark as llguidance reads it. Each function's schema stands for itself in it, so that its
references stay its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from fairlead.gateway.tools.fields import Function
from fairlead.text.call_format import MARKS, SHAPES, CallFormat

MAX_CALLS = 8
"""Where an answer must be calls and may hold several: a model that will not stop must not fill its
context."""
_LAYOUT = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
"""As chat templates write JSON, and as models have read it."""
_TEXT = r"TEXT: /(.|\n)*/"
_TEXT_BUT_CALLS = _TEXT + r' & ~/[ \t\n\r]*\{[ \t\n\r]*"(name|arguments|parameters|type)"(.|\n)*/'
"""Where calls have no mark: what `CallReader` takes for the beginning of one is no text."""


def calls_grammar(
    format: CallFormat,
    functions: Sequence[Function],
    *,
    only_one: bool,
    else_schema: str = "",
    marks: bool = False,
) -> str:
    """The whole answer is calls of `functions`; or, with `else_schema`, JSON that obeys it.
    `marks`: the marks around a call are tokens of their own."""
    several = format is CallFormat.HERMES and not only_one
    more = f" ({_text(SHAPES[format].separator)} call){{0,{MAX_CALLS - 1}}}" if several else ""
    rules = [
        f"start: calls{' | answer' if else_schema else ''}",
        f"calls: call{more}",
        "call: " + _opening(format, marks),
        *_calls(format, functions, {function.name for function in functions}, marks),
    ]
    if else_schema:
        rules.append(f"answer: %json {_json(msgspec.json.decode(else_schema))}")
    return "\n".join(rules) + "\n"


def text_or_calls_grammar(
    format: CallFormat, functions: Sequence[Function], *, marks: bool = False
) -> str:
    """The answer is what the model likes; where it begins a call, that is one of `functions`, and
    its arguments obey the schema of those that are strict."""
    shape = SHAPES[format]
    if not shape.begins:
        rules = ["start: calls | TEXT", f"calls: call ({_text(shape.separator)} call)*"]
        rules += ["call: " + _opening(format, marks), _TEXT_BUT_CALLS]
    else:
        rules = ["start: call* rest", "rest: TEXT", _TEXT]
        rules += (
            [f"call: TEXT {_opening(format, marks)}"]
            if marks
            # A lazy lexeme ends where the mark does, and nothing but a call can follow it.
            else [
                f"begun[lazy]: TEXT {_text(shape.begins)}",
                f"call: begun {_text(shape.opening.removeprefix(shape.begins))} called",
            ]
        )
    strict = {function.name for function in functions if function.strict}
    return "\n".join([*rules, *_calls(format, functions, strict, marks)]) + "\n"


def _opening(format: CallFormat, marks: bool) -> str:
    """All before the name, and the rest of the call."""
    return f"{_marked(SHAPES[format].opening, marks)} called"


def _calls(
    format: CallFormat, functions: Sequence[Function], held: set[str], marks: bool
) -> list[str]:
    """Rules for a call from its name on; the arguments of those `held` obey their schemas."""
    shape = SHAPES[format]
    rules = ["called: " + " | ".join(f"call_{k}" for k in range(len(functions)))]
    for k, function in enumerate(functions):
        begin = _text(f'"{function.name}"{shape.between}')
        schema = _arguments(function) if function.name in held else {"type": "object"}
        rules.append(f"call_{k}: {begin} args_{k} {_marked(shape.closing, marks)}")
        rules.append(f"args_{k}: %json {_json(schema)}")
    return rules


def _arguments(function: Function) -> dict[str, Any]:
    if not function.parameters:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    return {"type": "object", **function.parameters}


def _json(schema: dict[str, Any]) -> str:
    return msgspec.json.encode({**schema, "x-guidance": _LAYOUT}).decode()


def _marked(text: str, marks: bool) -> str:
    """A literal in which marks are tokens of their own, where the tokenizer has such."""
    found = next((mark for mark in MARKS if marks and mark in text), None)
    if found is None:
        return _text(text)
    before, after = text.split(found)
    parts = [_text(before) if before else "", found, _text(after) if after else ""]
    return " ".join(part for part in parts if part)


def _text(text: str) -> str:
    """A literal; what is written here has no need of more than JSON's escapes."""
    return msgspec.json.encode(text).decode()
