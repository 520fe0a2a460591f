"""Anthropic's Messages API: bodies in, errors out."""

from __future__ import annotations

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
    parse,
    unsupported,
)
from fairlead.gateway.translations.message_tools import (
    Block,
    MessageTool,
    ToolChoice,
    brought,
    chat_tools,
    text_of,
    used,
)
from fairlead.model import RequestError

PATH = "/v1/messages"
ROLES = ("user", "assistant", "system")
_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class Turn(msgspec.Struct):
    role: str
    content: str | list[Block]


class Metadata(msgspec.Struct):
    user_id: Name | None = None


class Thinking(msgspec.Struct):
    type: str


class OutputConfig(msgspec.Struct):
    format: dict[str, Any] | None = None


class CountBody(msgspec.Struct, kw_only=True):
    """Body of `/v1/messages/count_tokens`."""

    model: str
    messages: list[Turn]
    system: str | list[Block] | None = None
    thinking: Thinking | None = None
    tools: list[MessageTool] | None = None
    tool_choice: ToolChoice | None = None
    mcp_servers: Any = None
    container: Any = None


class MessageBody(CountBody, kw_only=True):
    """Body of `/v1/messages`. The second half are the same extras that chats take here."""

    max_tokens: Count
    stream: bool | None = None
    stop_sequences: Annotated[list[str], Meta(max_length=16)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    metadata: Metadata | None = None
    service_tier: str | None = None
    output_config: OutputConfig | None = None
    output_format: dict[str, Any] | None = None

    seed: Int64 | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    ignore_eos: bool | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    priority: Int32 | None = None
    fairlead: Hints | None = None


_UNSUPPORTED = {
    "mcp_servers": "nothing is called from here",
    "container": "nothing is run here",
}
_same_names = ("temperature", "top_p", "seed", "min_p", "ignore_eos", "min_tokens", "priority")
_message = msgspec.json.Decoder(MessageBody)
_count = msgspec.json.Decoder(CountBody)


def parse_message(data: bytes) -> ChatBody:
    """The chat that a message call asks for. Raises `RequestError`."""
    body = parse(_message, data)
    return ChatBody(
        model=body.model,
        messages=_conversation(body),
        max_tokens=body.max_tokens,
        stream=body.stream,
        stop=body.stop_sequences,
        top_k=body.top_k,
        user=body.metadata.user_id if body.metadata is not None else None,
        service_tier=None if body.service_tier == "standard_only" else body.service_tier,
        response_format=_response_format(body),
        fairlead=body.fairlead,
        **chat_tools(body.tools, body.tool_choice),
        **{name: getattr(body, name) for name in _same_names},
    )


def parse_count(data: bytes) -> ChatBody:
    """The chat whose prompt is to be counted. Raises `RequestError`."""
    body = parse(_count, data)
    return ChatBody(
        model=body.model, messages=_conversation(body), **chat_tools(body.tools, body.tool_choice)
    )


def error_body(error: RequestError) -> bytes:
    """`{"type": "error", "error": {...}}` as JSON."""
    return msgspec.json.encode({"type": "error", "error": error_fields(error)})


def error_fields(error: RequestError) -> dict[str, str]:
    usual = "api_error" if error.status >= 500 else "invalid_request_error"
    return {"type": _KINDS.get(error.status, usual), "message": str(error)}


def _conversation(body: CountBody) -> list[ChatMessage]:
    _refuse_unsupported(body)
    if not body.messages:
        raise RequestError("messages must not be empty; say something", param="messages")
    if body.messages[-1].role == "assistant":
        raise RequestError(
            "the last message must be the user's: an answer cannot be begun for the model",
            param="messages",
            code="unsupported",
        )
    system = [] if not body.system else [ChatMessage("system", text_of(body.system, "system"))]
    return [*system, *[message for turn in body.messages for message in _turn(turn)]]


def _turn(turn: Turn) -> list[ChatMessage]:
    """A turn brings what tools brought before what is said."""
    if turn.role not in ROLES:
        raise RequestError(
            f"messages: unknown role {turn.role!r}; known are {', '.join(ROLES)}", param="messages"
        )
    blocks = turn.content if isinstance(turn.content, list) else []
    results = [block for block in blocks if block.type == "tool_result"]
    uses = [block for block in blocks if block.type == "tool_use"]
    if not results and not uses:
        return [ChatMessage(turn.role, text_of(turn.content, "messages"))]
    found = [brought(block) for block in results]
    texts = [block for block in blocks if block.type not in ("tool_result", "tool_use")]
    if not texts and not uses:
        return found
    said = ChatMessage(turn.role, text_of(texts, "messages"), tool_calls=[used(b) for b in uses])
    return [*found, said]


def _refuse_unsupported(body: CountBody) -> None:
    for name, advice in _UNSUPPORTED.items():
        if getattr(body, name):
            unsupported(name, advice)
    if body.thinking is not None and body.thinking.type not in ("disabled", "adaptive"):
        unsupported("thinking", "models think, if they do, in their answer; leave it out")


def _response_format(body: MessageBody) -> dict[str, Any] | None:
    """A chat's word for the format that the answer shall have."""
    wanted = body.output_config.format if body.output_config is not None else None
    wanted = body.output_format if wanted is None else wanted
    if wanted is None or wanted.get("type") != "json_schema":
        return wanted
    return {"type": "json_schema", "json_schema": {"schema": wanted.get("schema")}}
