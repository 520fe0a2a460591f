"""The tools that a call offers its model, checked and within bounds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import msgspec

from fairlead.gateway.output_schema import MAX_SCHEMA_BYTES, bounded
from fairlead.gateway.tools.fields import Function, Tool
from fairlead.model import RequestError

MAX_TOOLS = 128
"""As with OpenAI."""
MAX_TOOLS_BYTES = 256 * 1024
"""Of all together, as JSON: they become part of the prompt."""
MAX_DEPTH = 32
"""Of what is nested in a tool's schema, or in the arguments of a call."""
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class Choice(Enum):
    """What an answer must do with the tools."""

    NONE = "none"
    AUTO = "auto"
    REQUIRED = "required"


class Offer(msgspec.Struct, frozen=True):
    """Tools, and what the answer may do with them."""

    functions: tuple[Function, ...]
    n_bytes: int
    """Of all together, as JSON."""
    choice: Choice
    only_one: bool
    """There may be one call, and no second."""
    demanded: str = ""
    """The function that must be called; empty where any will do."""

    @property
    def names(self) -> frozenset[str]:
        return frozenset(function.name for function in self.functions)

    @property
    def callable(self) -> tuple[Function, ...]:
        """Those that the answer may call."""
        if not self.demanded:
            return self.functions
        return tuple(f for f in self.functions if f.name == self.demanded)

    def as_json(self) -> list[dict[str, Any]]:
        """The tools as chat templates know them."""
        return [
            {"type": "function", "function": msgspec.to_builtins(function)}
            for function in self.functions
        ]


def read_offer(
    tools: Sequence[Tool] | None, tool_choice: str | Mapping[str, Any] | None, parallel: bool | None
) -> Offer | None:
    """None where nothing may be called. Raises `RequestError`."""
    if not tools:
        _refuse_choice_of_nothing(tool_choice)
        return None
    functions, n_bytes = _functions(tools)
    choice, demanded = _choice(tool_choice, [function.name for function in functions])
    if choice is Choice.NONE:
        return None
    only_one = parallel is False or bool(demanded)
    return Offer(functions, n_bytes, choice, only_one, demanded)


def check_depth(value: object, what: str, param: str) -> None:
    """Raises `RequestError` where something is nested too deeply in `value`."""
    level: list[object] = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise _wrong(f"{what} is nested more than {MAX_DEPTH} deep; flatten it", param)


def _inside(value: object) -> Sequence[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def _functions(tools: Sequence[Tool]) -> tuple[tuple[Function, ...], int]:
    if len(tools) > MAX_TOOLS:
        raise _wrong(f"there are {len(tools)} tools; at most {MAX_TOOLS} work", "tools")
    functions = tuple(_function(tool, at) for at, tool in enumerate(tools))
    names = [function.name for function in functions]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise _wrong(f"two tools are called {twice!r}; give each a name of its own", "tools")
    n_bytes = len(msgspec.json.encode(functions))
    if n_bytes > MAX_TOOLS_BYTES:
        raise _wrong(
            f"the tools have {n_bytes} bytes together; at most {MAX_TOOLS_BYTES} work", "tools"
        )
    return functions, n_bytes


def _function(tool: Tool, at: int) -> Function:
    where = f"tools[{at}]"
    if tool.type != "function":
        raise RequestError(
            f"{where}: a tool of type {tool.type!r} cannot be had here; describe it as one of type"
            " 'function'",
            param="tools",
            code="unsupported",
        )
    function = tool.function
    if function is None:
        raise _wrong(f"{where} has no `function`", "tools")
    if not _NAME.fullmatch(function.name):
        raise _wrong(
            f"{where}: a function's name has 1 to 64 letters, digits, _ or -, and nothing else",
            "tools",
        )
    schema = function.parameters or {}
    if schema.get("type", "object") != "object":
        raise _wrong(f"{where}: its parameters must be a schema of type 'object'", "tools")
    check_depth(schema, f"the schema of {function.name!r}", "tools")
    bounded(schema, f"the schema of {function.name!r}", "tools")
    return function


def check_together(functions: Sequence[Function], wanted: str) -> None:
    """Raises `RequestError` where an engine cannot hold an answer to one of so many schemas, as
    the field `wanted` has it."""
    schemas = [function.parameters or {} for function in functions]
    what = f"{wanted}: all schemas together, of which {MAX_SCHEMA_BYTES} bytes can be enforced"
    bounded({"anyOf": schemas}, what, "tools")


def _choice(tool_choice: str | Mapping[str, Any] | None, names: list[str]) -> tuple[Choice, str]:
    """What must be done, and with which function."""
    if tool_choice is None:
        return Choice.AUTO, ""
    if isinstance(tool_choice, str):
        if tool_choice in {choice.value for choice in Choice}:
            return Choice(tool_choice), ""
        raise _wrong(f"tool_choice must be none, auto or required, got {tool_choice!r}")
    function = tool_choice.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if tool_choice.get("type") != "function" or not isinstance(name, str):
        raise _wrong(
            'tool_choice must be none, auto, required, or {"type": "function", "function":'
            ' {"name": ...}}'
        )
    if name not in names:
        raise _wrong(f"tool_choice names {name!r}; the tools are {', '.join(names)}")
    return Choice.REQUIRED, name


def _refuse_choice_of_nothing(tool_choice: str | Mapping[str, Any] | None) -> None:
    if tool_choice not in (None, "none", "auto"):
        raise _wrong("tool_choice asks for a call, and there are no tools; send some")


def _wrong(message: str, param: str = "tool_choice") -> RequestError:
    return RequestError(message, param=param, code="invalid_value")
