"""Tools in the other two APIs, with their makers' clients."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest
from benchmarks.fake_worker import SPEC

from tests.gateway.tools.scripted import NOW, PARIS, WEATHER, ScriptedWorker

TEXT = f"So:\n{PARIS}\n{NOW}"
MESSAGE_TOOLS: list[Any] = [
    {"name": "get_weather", "input_schema": WEATHER["parameters"]},
    {"name": "get_time", "input_schema": {"type": "object"}},
]
RESPONSE_TOOLS: list[Any] = [
    {"type": "function", **WEATHER},
    {"type": "function", "name": "get_time"},
]
MESSAGE: dict[str, Any] = {
    "model": SPEC.model,
    "max_tokens": 200,
    "messages": [{"role": "user", "content": "hello"}],
    "tools": MESSAGE_TOOLS,
}
RESPONSE: dict[str, Any] = {"model": SPEC.model, "input": "hello", "tools": RESPONSE_TOOLS}


@pytest.fixture
async def worker(gateway):
    return await ScriptedWorker(TEXT).join(gateway.workers_address)


@pytest.fixture
async def claude(gateway, worker):
    async with anthropic.AsyncAnthropic(
        base_url=gateway.url, api_key="none", max_retries=0
    ) as client:
        yield client


@pytest.fixture
async def responses(gateway, worker):
    async with openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key="none", max_retries=0
    ) as client:
        yield client.responses


@pytest.mark.parametrize("stream", [False, True])
async def test_a_message_uses_tools_in_blocks(claude, stream):
    if stream:
        async with claude.messages.stream(**MESSAGE) as events:
            message = await events.get_final_message()
    else:
        message = await claude.messages.create(**MESSAGE)
    assert message.stop_reason == "tool_use"
    assert [block.type for block in message.content] == ["text", "tool_use", "tool_use"]
    text, weather, time = message.content
    assert text.text == "So:"
    assert (weather.name, weather.input) == ("get_weather", {"city": "Paris"})
    assert (time.name, time.input) == ("get_time", {})


async def test_blocks_of_a_streamed_message_come_one_after_the_other(claude):
    kinds = []
    async for event in await claude.messages.create(**MESSAGE, stream=True):
        index = getattr(event, "index", None)
        if not kinds or kinds[-1] != (event.type, index):
            kinds.append((event.type, index))
    blocks = [
        (f"content_block_{kind}", index)
        for index in range(3)
        for kind in ("start", "delta", "stop")
    ]
    rest = [("message_delta", None), ("message_stop", None)]
    assert kinds == [("message_start", None), *blocks, *rest]


async def test_what_tools_brought_becomes_part_of_the_chat(claude, worker):
    used = {"type": "tool_use", "id": "t1", "name": "get_time", "input": {"a": 1}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "noon"}
    await claude.messages.create(
        model=SPEC.model,
        max_tokens=50,
        messages=[
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": [{"type": "text", "text": "wait"}, used]},
            {"role": "user", "content": [result, {"type": "text", "text": "go on"}]},
        ],
    )
    prompt = bytes(worker.submits[0].request.token_ids).decode()
    assert prompt == (
        'user: hello\nassistant: wait\ncall get_time {"a": 1}\ntool: noon\nuser: go on\n'
    )


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "s"}]}, "cannot be had"),
        ({"tool_choice": {"type": "any"}}, "not supported"),
        ({"tool_choice": {"type": "tool", "name": "nothing"}}, "the tools are"),
        ({"tool_choice": {"type": "some"}}, "auto, any, tool or none"),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]},
            "lacks its tool_use_id",
        ),
    ],
)
async def test_mistakes_with_a_messages_tools_are_explained(claude, fields, part):
    with pytest.raises(anthropic.BadRequestError, match=part):
        await claude.messages.create(**MESSAGE | fields)


async def test_only_the_first_tool_where_no_more_are_wanted(claude):
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    message = await claude.messages.create(**MESSAGE, tool_choice=choice)
    assert [block.type for block in message.content] == ["text", "tool_use"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_calls_functions_in_items(responses, stream):
    if stream:
        async with responses.stream(**RESPONSE) as events:
            response = await events.get_final_response()
    else:
        response = await responses.create(**RESPONSE)
    assert response.status == "completed"
    assert [item.type for item in response.output] == ["message", "function_call", "function_call"]
    text, weather, time = response.output
    assert text.content[0].text == response.output_text == "So:"
    assert (weather.name, json.loads(weather.arguments)) == ("get_weather", {"city": "Paris"})
    assert (time.name, time.arguments) == ("get_time", "{}")
    assert len({item.id for item in response.output}) == 3
    assert response.tools[1].name == "get_time"


async def test_items_of_a_streamed_response_come_one_after_the_other(responses):
    kinds: list[Any] = []
    numbers = []
    async for event in await responses.create(**RESPONSE, stream=True):
        numbers.append(event.sequence_number)
        kind = (event.type.removeprefix("response."), getattr(event, "output_index", None))
        if not kinds or kinds[-1] != kind:
            kinds.append(kind)
    assert numbers == list(range(len(numbers)))
    text = ["output_item.added", "content_part.added", "output_text.delta"]
    text += ["output_text.done", "content_part.done", "output_item.done"]
    call = ["output_item.added", "function_call_arguments.delta"]
    call += ["function_call_arguments.done", "output_item.done"]
    expected = [(kind, at) for at, own in enumerate([text, call, call]) for kind in own]
    assert kinds[:2] == [("created", None), ("in_progress", None)]
    assert kinds[2:-1] == expected
    assert kinds[-1] == ("completed", None)


async def test_a_response_goes_on_from_what_functions_brought(responses, worker):
    await responses.create(
        model=SPEC.model,
        input=[
            {"role": "user", "content": "hello"},
            {"type": "function_call", "call_id": "c1", "name": "get_time", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "get_time", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "noon"},
            {"type": "function_call_output", "call_id": "c2", "output": "one"},
        ],
    )
    prompt = bytes(worker.submits[0].request.token_ids).decode()
    calls = "call get_time {}\n" * 2
    assert prompt == f"user: hello\nassistant: \n{calls}tool: noon\ntool: one\n"


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"tool_choice": "required"}, "not supported"),
        ({"tool_choice": {"type": "function", "name": "nothing"}}, "the tools are"),
        ({"tools": [{"type": "function"}]}, "letters, digits"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "lacks a part"),
    ],
)
async def test_mistakes_with_a_responses_functions_are_explained(responses, fields, part):
    with pytest.raises(openai.BadRequestError, match=part):
        await responses.create(**RESPONSE | fields)
