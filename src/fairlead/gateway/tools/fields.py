"""Tools and calls of them, as OpenAI's chats bear them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

FunctionName = Annotated[str, Meta(min_length=1, max_length=64, pattern="^[a-zA-Z0-9_-]+$")]


class Function(msgspec.Struct, omit_defaults=True):
    """What a model may call."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """A JSON Schema of an object; without one there are no parameters."""
    strict: bool | None = None


class Tool(msgspec.Struct):
    type: str
    function: Function | None = None


class CalledFunction(msgspec.Struct):
    name: str
    arguments: str = ""
    """JSON."""


class ToolCall(msgspec.Struct):
    """A call that was made before."""

    function: CalledFunction
    id: str = ""
    type: str = "function"
