"""Messages of a chat as models get them: in the words of chat templates, or of other servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from fairlead.gateway.schemas import ChatBody, ChatMessage
from fairlead.gateway.tools.fields import ToolCall
from fairlead.gateway.tools.offer import check_depth
from fairlead.model import RequestError

ROLES = ("system", "developer", "user", "assistant", "tool")
Messages = list[dict[str, Any]]


def plain_messages(messages: Sequence[ChatMessage], model: str) -> Messages:
    """Roles and strings, as every server takes them. Raises `RequestError`."""
    plain = [_plain(message, model) for message in messages]
    if not plain:
        raise RequestError("messages must not be empty; say something", param="messages")
    return plain


def holds_calls(messages: Messages) -> bool:
    """Whether tools were called before."""
    return any(message["role"] == "tool" or "tool_calls" in message for message in messages)


def for_template(messages: Messages) -> Messages:
    """The same with the arguments of calls as objects, which templates expect."""
    return [
        {**message, "tool_calls": [_opened(call) for call in message["tool_calls"]]}
        if "tool_calls" in message
        else message
        for message in messages
    ]


def passed_on(body: ChatBody, messages: Messages) -> bytes:
    """What a server that takes chats is sent of this one: what its answer follows from."""
    tools = {
        "tools": body.tools,
        "tool_choice": body.tool_choice,
        "parallel_tool_calls": body.parallel_tool_calls,
    }
    fields: dict[str, Any] = tools if body.tools else {}
    # What changes from turn to turn comes last, so that prefixes stay alike.
    fields |= {"response_format": body.response_format, "messages": messages}
    return msgspec.json.encode({key: value for key, value in fields.items() if value is not None})


def _plain(message: ChatMessage, model: str) -> dict[str, Any]:
    if message.role not in ROLES:
        raise RequestError(
            f"unknown role {message.role!r}; known are {', '.join(ROLES)}", param="messages"
        )
    # Templates know the older name of a developer's message.
    role = "system" if message.role == "developer" else message.role
    plain: dict[str, Any] = {"role": role, "content": _text(message, model)}
    if message.tool_calls:
        if role != "assistant":
            raise RequestError(
                f"tool_calls are the assistant's, and a message of the {role!r} has some",
                param="messages",
            )
        plain["tool_calls"] = [_call(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        plain["tool_call_id"] = message.tool_call_id
    if role == "tool" and message.name is not None:
        plain["name"] = message.name
    return plain


def _text(message: ChatMessage, model: str) -> str:
    content = message.content
    if not isinstance(content, list):
        return content or ""
    texts = []
    for part in content:
        if part.type not in ("text", "input_text", "output_text") or part.text is None:
            raise RequestError(
                f"{model} reads text only, and a message has a part of type"
                f" {part.type!r}; send parts of type 'text'",
                param="messages",
                code="unsupported_content",
            )
        texts.append(part.text)
    return "\n".join(texts)


def _call(call: ToolCall) -> dict[str, Any]:
    if call.type != "function":
        raise RequestError(
            f"messages: a call of type {call.type!r} cannot be read; send calls of type 'function'",
            param="messages",
            code="unsupported_content",
        )
    function = {"name": call.function.name, "arguments": call.function.arguments or "{}"}
    return {"id": call.id, "type": "function", "function": function}


def _opened(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    arguments = _object(function["arguments"], function["name"])
    return {**call, "function": {**function, "arguments": arguments}}


def _object(arguments: str, name: str) -> dict[str, Any]:
    try:
        read = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        read = None
    if not isinstance(read, dict):
        raise RequestError(
            f"messages: the arguments of a call of {name!r} are no JSON object; send them as the"
            " model gave them",
            param="messages",
            code="invalid_value",
        )
    check_depth(read, f"the arguments of a call of {name!r}", "messages")
    return read
