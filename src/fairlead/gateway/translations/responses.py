"""OpenAI's Responses API: bodies in. Nothing is stored, so a call brings its whole conversation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from fairlead.gateway.schemas import (
    ChatBody,
    ChatMessage,
    Count,
    Hints,
    Int32,
    Int64,
    Name,
    Part,
    parse,
    unsupported,
)
from fairlead.gateway.tools.fields import CalledFunction, Function, Tool, ToolCall
from fairlead.model import RequestError


class Item(msgspec.Struct):
    """One thing of the conversation: a message, a call of a function, or what it brought."""

    type: str = "message"
    role: str | None = None
    content: str | list[Part] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[Part] | None = None


class ResponseTool(msgspec.Struct, omit_defaults=True):
    """A function, without the envelope that chats put around it."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class TextConfig(msgspec.Struct):
    format: dict[str, Any] | None = None


class ResponseBody(msgspec.Struct, kw_only=True):
    """Body of `/v1/responses`. The last group are the same extras that chats take here."""

    model: str
    input: str | list[Item]
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    text: TextConfig | None = None
    metadata: dict[str, str] | None = None
    user: Name | None = None
    safety_identifier: Name | None = None
    prompt_cache_key: Name | None = None
    service_tier: str | None = None
    truncation: str | None = None
    include: list[str] | None = None

    tools: list[ResponseTool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    previous_response_id: Any = None
    conversation: Any = None
    prompt: Any = None
    background: Any = None
    top_logprobs: Any = None

    seed: Int64 | None = None
    stop: str | Annotated[list[str], Meta(max_length=16)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    ignore_eos: bool | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    priority: Int32 | None = None
    fairlead: Hints | None = None

    def chat(self) -> ChatBody:
        """The chat that this call asks for."""
        return ChatBody(
            messages=_conversation(self),
            max_tokens=self.max_output_tokens,
            response_format=_response_format(self),
            tools=[_tool(tool) for tool in self.tools or ()],
            tool_choice=_tool_choice(self.tool_choice),
            parallel_tool_calls=self.parallel_tool_calls,
            **{name: getattr(self, name) for name in _SAME_NAMES},
        )

    def shown_tools(self) -> list[dict[str, Any]]:
        """The tools, as the reply tells them again."""
        return [msgspec.to_builtins(tool) for tool in self.tools or ()]


_OTHER = ("tools", "tool_choice", "parallel_tool_calls", "top_logprobs")
_SAME_NAMES = [
    name
    for name in ResponseBody.__struct_fields__
    if name in ChatBody.__struct_fields__ and name not in _OTHER
]
_UNSUPPORTED = {
    "previous_response_id": "nothing is stored; send the whole conversation as `input`",
    "conversation": "nothing is stored; send the whole conversation as `input`",
    "prompt": "nothing is stored; send the text itself as `input`",
    "background": "wait for the answer, or stream it",
    "top_logprobs": "log-probabilities are part of /v1/chat/completions",
}
_LOGPROBS = "message.output_text.logprobs"
_THEIR_NAMES = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "response_format": "text.format",
    "response_format.type": "text.format.type",
    "response_format.json_schema.schema": "text.format.schema",
}
_response = msgspec.json.Decoder(ResponseBody)


def parse_response(data: bytes) -> ResponseBody:
    """Raises `RequestError` on anything that is not a response call, or that cannot be had."""
    body = parse(_response, data)
    for name, advice in _UNSUPPORTED.items():
        if getattr(body, name):
            unsupported(name, advice)
    if body.truncation not in (None, "disabled"):
        unsupported("truncation", "nothing of a conversation is left out; shorten it yourself")
    if _LOGPROBS in (body.include or ()):
        unsupported("include", _UNSUPPORTED["top_logprobs"])
    return body


@contextlib.contextmanager
def own_names() -> Iterator[None]:
    """Complaints about the chat name the fields that the client sent."""
    try:
        yield
    except RequestError as error:
        error.param = _THEIR_NAMES.get(error.param or "", error.param)
        error.args = (str(error).replace("max_tokens", "max_output_tokens"),)
        raise


def _conversation(body: ResponseBody) -> list[ChatMessage]:
    begin = [ChatMessage("system", body.instructions)] if body.instructions else []
    if isinstance(body.input, str):
        return [*begin, ChatMessage("user", body.input)]
    if not body.input:
        raise RequestError("input must not be empty; say something", param="input")
    said: list[ChatMessage] = []
    for item in body.input:
        _take(item, said)
    return [*begin, *said]


def _take(item: Item, said: list[ChatMessage]) -> None:
    """Adds an item to what was said before. Calls belong to the assistant's last word."""
    if item.type == "function_call" and item.name is not None and item.call_id is not None:
        call = ToolCall(CalledFunction(item.name, item.arguments or ""), item.call_id)
        if not said or said[-1].role != "assistant":
            said.append(ChatMessage("assistant"))
        said[-1].tool_calls = [*(said[-1].tool_calls or ()), call]
    elif item.type == "function_call_output" and item.call_id is not None:
        said.append(ChatMessage("tool", item.output, tool_call_id=item.call_id))
    elif item.type == "message" and item.role is not None:
        said.append(ChatMessage(item.role, item.content))
    else:
        raise RequestError(
            "input: only messages, calls of functions and their outputs are read here, and there"
            f" is an item of type {item.type!r} that is none, or lacks a part; send items with"
            " role and content, with call_id, name and arguments, or with call_id and output",
            param="input",
            code="unsupported_content",
        )


def _tool(tool: ResponseTool) -> Tool:
    if tool.type != "function":
        return Tool(tool.type)
    return Tool(
        "function", Function(tool.name or "", tool.description, tool.parameters, tool.strict)
    )


def _tool_choice(wanted: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
    """In a chat's words."""
    if isinstance(wanted, dict) and wanted.get("type") == "function":
        return {"type": "function", "function": {"name": wanted.get("name")}}
    return wanted


def _response_format(body: ResponseBody) -> dict[str, Any] | None:
    """A chat's word for the format that the answer shall have."""
    wanted = body.text.format if body.text is not None else None
    if wanted is None or wanted.get("type") != "json_schema":
        return wanted
    return {"type": "json_schema", "json_schema": {"schema": wanted.get("schema")}}
