"""What a client asks who wants calls of tools, or JSON that obeys a schema, streamed and not."""

from __future__ import annotations

import json
from typing import Any

from tests.live.test_vllm_engines import Client


def _tool(name: str, key: str, values: list[str]) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": {key: {"enum": values}},
        "required": [key],
        "additionalProperties": False,
    }
    function = {"name": name, "parameters": parameters, "strict": True}
    return {"type": "function", "function": function}


CITIES, COLOURS = ["Paris", "Rome"], ["red", "green"]
TOOLS = [_tool("get_weather", "city", CITIES), _tool("paint", "colour", COLOURS)]
ALLOWED = {"get_weather": [{"city": city} for city in CITIES]}
ALLOWED["paint"] = [{"colour": colour} for colour in COLOURS]
NAMED = {"type": "function", "function": {"name": "paint"}}
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "painted",
        "strict": True,
        "schema": TOOLS[1]["function"]["parameters"],
    },
}
LONG = {"max_tokens": 600, "frequency_penalty": 2.0}
"""No answer that is held to something ends for want of tokens; and a model of random weights, which
would write blanks for ever where JSON may have some, comes to its point."""


def a_call_of_the_function_that_was_named(client: Client) -> None:
    asked: dict[str, Any] = {"tools": TOOLS, "tool_choice": NAMED, **LONG}
    for answer in client.chats(**asked):
        (call,) = answer.choices[0].message.tool_calls
        assert call.function.name == "paint"
        check_calls(answer.choices[0].message.tool_calls)
        assert answer.choices[0].finish_reason == "tool_calls"
    for stream in client.chats(**asked, stream=True):
        (one,) = streamed(stream)
        assert one[0] == "paint"


def calls_because_some_are_required(client: Client) -> None:
    asked: dict[str, Any] = {"tools": TOOLS, "tool_choice": "required", **LONG}
    asked["parallel_tool_calls"] = False
    for answer in client.chats(**asked):
        assert len(answer.choices[0].message.tool_calls) == 1
        check_calls(answer.choices[0].message.tool_calls)
        assert answer.choices[0].finish_reason == "tool_calls"
    for stream in client.chats(**asked, stream=True):
        assert len(streamed(stream)) == 1


def what_a_call_brought(client: Client) -> None:
    """A conversation in which tools were called goes on."""
    function = {"name": "paint", "arguments": '{"colour": "red"}'}
    messages = [
        {"role": "user", "content": "Paint it."},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "done"},
    ]
    for answer in client.chats(messages=messages, tools=TOOLS):
        assert answer.usage.completion_tokens > 0


def json_by_a_schema(client: Client) -> None:
    for answer in client.chats(response_format=SCHEMA, **LONG):
        assert json.loads(answer.choices[0].message.content) in ALLOWED["paint"]
        assert answer.choices[0].finish_reason == "stop"
    for stream in client.chats(response_format=SCHEMA, **LONG, stream=True):
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        assert json.loads(text) in ALLOWED["paint"]


TOOL_QUESTIONS = (
    a_call_of_the_function_that_was_named,
    calls_because_some_are_required,
    what_a_call_brought,
    json_by_a_schema,
)


def check_calls(calls: list[Any]) -> None:
    for call in calls:
        assert json.loads(call.function.arguments) in ALLOWED[call.function.name]
    assert len({call.id for call in calls}) == len(calls)


def streamed(stream: Any) -> list[tuple[str, dict[str, str]]]:
    """The calls of a stream, each with its arguments, which are among those allowed."""
    names: list[str] = []
    arguments: list[str] = []
    finish = None
    for chunk in stream:
        (choice,) = chunk.choices
        finish = choice.finish_reason or finish
        for part in choice.delta.tool_calls or []:
            if part.index == len(names):
                names.append(part.function.name)
                arguments.append("")
            arguments[part.index] += part.function.arguments or ""
    assert finish == "tool_calls"
    calls = [(name, json.loads(given)) for name, given in zip(names, arguments, strict=True)]
    assert all(given in ALLOWED[name] for name, given in calls), calls
    return calls
