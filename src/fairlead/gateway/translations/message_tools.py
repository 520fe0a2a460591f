"""Blocks and tools of Anthropic's Messages API, in the words of a chat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from fairlead.gateway.schemas import ChatMessage
from fairlead.gateway.tools.fields import CalledFunction, Function, Tool, ToolCall
from fairlead.model import RequestError


class Block(msgspec.Struct):
    """A piece of a turn: text, a tool that the model uses, or what a tool brought. What else a
    block has is for kinds that are refused."""

    type: str
    text: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    tool_use_id: str | None = None
    content: str | list[Block] | None = None


class MessageTool(msgspec.Struct):
    """What the model may use."""

    name: str
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None


class ToolChoice(msgspec.Struct):
    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


def text_of(content: str | list[Block], where: str) -> str:
    """The text of blocks. Raises `RequestError` where there is anything else."""
    return content if isinstance(content, str) else "\n".join([_said(b, where) for b in content])


def _said(block: Block, where: str) -> str:
    if block.type != "text" or block.text is None:
        raise RequestError(
            f"{where}: only text and tools are read here, and there is a block of type"
            f" {block.type!r}; send blocks of type 'text'",
            param=where,
            code="unsupported_content",
        )
    return block.text


def brought(block: Block) -> ChatMessage:
    """What a tool brought."""
    if block.tool_use_id is None:
        raise RequestError("messages: a tool_result lacks its tool_use_id", param="messages")
    return ChatMessage(
        "tool", text_of(block.content or "", "messages"), tool_call_id=block.tool_use_id
    )


def used(block: Block) -> ToolCall:
    """A tool that the model wanted."""
    if block.id is None or block.name is None:
        raise RequestError("messages: a tool_use lacks its id or its name", param="messages")
    arguments = msgspec.json.encode(block.input or {}).decode()
    return ToolCall(CalledFunction(block.name, arguments), block.id)


def chat_tools(tools: Sequence[MessageTool] | None, choice: ToolChoice | None) -> dict[str, Any]:
    """The fields of a chat that say what may be called."""
    single = choice is not None and choice.disable_parallel_tool_use
    return {
        "tools": [_tool(tool) for tool in tools or ()],
        "tool_choice": None if choice is None else _tool_choice(choice),
        "parallel_tool_calls": False if single else None,
    }


def _tool(tool: MessageTool) -> Tool:
    if tool.type not in (None, "custom"):
        return Tool(tool.type)
    return Tool("function", Function(tool.name, tool.description, tool.input_schema, tool.strict))


_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def _tool_choice(choice: ToolChoice) -> str | dict[str, Any]:
    if choice.type == "tool":
        return {"type": "function", "function": {"name": choice.name or ""}}
    if choice.type not in _CHOICES:
        raise RequestError(
            f"tool_choice.type must be auto, any, tool or none, got {choice.type!r}",
            param="tool_choice",
        )
    return _CHOICES[choice.type]
