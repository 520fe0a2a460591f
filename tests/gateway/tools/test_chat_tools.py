"""Tools with OpenAI's official client, unchanged, over a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import openai
import pytest
from benchmarks.fake_worker import SPEC

from fairlead.gateway import Gateway
from tests.gateway.tools.scripted import NOW, PARIS, ROME, TOOLS, ScriptedWorker

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
ASKED: dict[str, Any] = {"model": SPEC.model, "messages": HELLO, "tools": TOOLS}


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    url = f"{gateway.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def script(gateway: Gateway) -> Callable[..., Awaitable[ScriptedWorker]]:
    async def begin(text: str, **settings: Any) -> ScriptedWorker:
        worker = ScriptedWorker(text, **settings)
        await worker.join(gateway.workers_address)
        return worker

    return begin


async def test_a_call_is_told_apart_from_the_text_before_it(client, script):
    worker = await script(f"Let me look.\n{PARIS}")
    answer = await client.chat.completions.create(**ASKED)
    choice = answer.choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "Let me look.")
    (call,) = choice.message.tool_calls
    assert (call.type, call.function.name) == ("function", "get_weather")
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    assert call.id.startswith("call_")
    prompt = bytes(worker.submits[0].request.token_ids).decode()
    assert json.loads(prompt.splitlines()[0].removeprefix("tool ")) == TOOLS[0]["function"]


async def test_an_answer_of_calls_alone_has_no_content(client, script):
    await script(f"{PARIS}\n{NOW}")
    answer = await client.chat.completions.create(**ASKED)
    message = answer.choices[0].message
    assert message.content is None
    assert [call.function.name for call in message.tool_calls] == ["get_weather", "get_time"]
    assert len({call.id for call in message.tool_calls}) == 2


async def test_an_answer_without_calls_is_text(client, script):
    await script("It is sunny. {}")
    choice = (await client.chat.completions.create(**ASKED)).choices[0]
    assert (choice.message.content, choice.message.tool_calls) == ("It is sunny. {}", None)
    assert choice.finish_reason == "stop"


async def test_a_call_is_streamed_as_it_comes(client, script):
    await script(f"So:\n{PARIS}\n{ROME}")
    stream = await client.chat.completions.create(**ASKED, stream=True)
    text, ids, names, fragments, finish = "", {}, {}, {}, None
    async for chunk in stream:
        choice = chunk.choices[0]
        text += choice.delta.content or ""
        finish = choice.finish_reason or finish
        for call in choice.delta.tool_calls or ():
            if call.id is not None:
                assert call.index not in ids
                ids[call.index], names[call.index] = call.id, call.function.name
                assert (call.type, call.function.arguments) == ("function", "")
            else:
                assert call.index == max(ids)
                fragments.setdefault(call.index, []).append(call.function.arguments)
    assert (text, finish) == ("So:", "tool_calls")
    assert names == {0: "get_weather", 1: "get_weather"}
    assert len(fragments[0]) > 2
    assert json.loads("".join(fragments[0])) == {"city": "Paris"}
    assert json.loads("".join(fragments[1])) == {"city": "Rome"}


async def test_the_clients_own_helper_puts_the_stream_together(client, script):
    await script(PARIS, n_chars=7)
    async with client.chat.completions.stream(**ASKED) as stream:
        answer = await stream.get_final_completion()
    (call,) = answer.choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Paris"}


async def test_choices_each_have_calls_of_their_own(client, script):
    await script(PARIS)
    answer = await client.chat.completions.create(**ASKED, n=2)
    assert len({choice.message.tool_calls[0].id for choice in answer.choices}) == 2


async def test_a_call_that_was_cut_ends_with_length(client, script):
    await script(PARIS)
    answer = await client.chat.completions.create(**ASKED, max_tokens=19)
    choice = answer.choices[0]
    assert choice.finish_reason == "length"
    assert choice.message.tool_calls[0].function.arguments == '{"city":'[:8]


@pytest.mark.parametrize("stream", [False, True])
async def test_log_probabilities_tell_of_every_token_of_a_call(client, script, stream):
    await script(PARIS)
    answer = await client.chat.completions.create(**ASKED, logprobs=True, stream=stream)
    if stream:
        shown = [chunk.choices[0].logprobs async for chunk in answer]
        tokens = [one.token for entry in shown if entry for one in entry.content]
    else:
        tokens = [one.token for one in answer.choices[0].logprobs.content]
    assert "".join(tokens) == PARIS


async def test_a_stream_goes_on_in_the_middle_of_a_call_when_its_worker_dies(client, script):
    first = await script(f"So:\n{PARIS}\n{NOW}", pace_s=None)
    asking = asyncio.create_task(client.chat.completions.create(**ASKED, stream=True))
    await first.until(lambda: first.submits)
    for _ in range(20):
        first.step()
    stream = await asking
    await script(f"So:\n{PARIS}\n{NOW}")
    names, arguments = [], ""
    async for chunk in stream:
        for call in chunk.choices[0].delta.tool_calls or ():
            if call.function.name:
                names.append(call.function.name)
            arguments += call.function.arguments
        if "{" in arguments:
            first.leave()
    assert names == ["get_weather", "get_time"]
    assert arguments == '{"city": "Paris"}{}'


async def test_none_hides_the_tools_and_reads_nothing(client, script):
    worker = await script(PARIS)
    answer = await client.chat.completions.create(**ASKED, tool_choice="none")
    assert answer.choices[0].message.content == PARIS
    assert b"tool " not in bytes(worker.submits[0].request.token_ids)


async def test_without_parallel_calls_the_first_ends_the_answer(client, script):
    worker = await script(f"{PARIS}\n{NOW}")
    answer = await client.chat.completions.create(**ASKED, parallel_tool_calls=False)
    assert len(answer.choices[0].message.tool_calls) == 1
    assert worker.submits[0].request.sampling.stop == ("</tool_call>",)


async def test_what_was_called_before_and_what_it_brought_are_part_of_the_prompt(client, script):
    worker = await script("Sunny.")
    called = {"id": "call_1", "type": "function"}
    called["function"] = {"name": "get_weather", "arguments": '{"city":"Rome"}'}
    await client.chat.completions.create(
        model=SPEC.model,
        messages=[
            *HELLO,
            {"role": "assistant", "content": None, "tool_calls": [called]},
            {"role": "tool", "tool_call_id": "call_1", "content": "20 degrees"},
        ],
    )
    prompt = bytes(worker.submits[0].request.token_ids).decode()
    assert prompt == (
        'user: hello\nassistant: \ncall get_weather {"city": "Rome"}\ntool: 20 degrees\n'
    )


def tool(**function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", **function}}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def before(**call: Any) -> list[Any]:
    function = {"name": "f", "arguments": call.pop("arguments", "{}")}
    return [*HELLO, {"role": "assistant", "tool_calls": [{"function": function, **call}]}]


@pytest.mark.parametrize(
    ("fields", "param", "part"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools", "'web_search' cannot be had"),
        ({"tools": [{"type": "function"}]}, "tools", "no `function`"),
        ({"tools": [tool(name="a b")]}, "tools[0].function.name", "regex"),
        ({"tools": [tool(name="a\n")]}, "tools", "letters, digits"),
        ({"tools": [tool(name="x" * 65)]}, "tools[0].function.name", "64"),
        ({"tools": [tool(), tool()]}, "tools", "two tools are called 'f'"),
        ({"tools": [tool(name=f"f{i}") for i in range(129)]}, "tools", "at most 128"),
        ({"tools": [tool(description="x" * 300_000)]}, "tools", "together; at most"),
        ({"tools": [tool(parameters={"type": "string"})]}, "tools", "of type 'object'"),
        ({"tools": [tool(parameters=nested(40))]}, "tools", "more than 32 deep"),
        ({"tools": [tool(parameters={"title": "x" * 40_000})]}, "tools", "at most 32768"),
        ({"tools": [tool(parameters={"multipleOf": 99_999})]}, "tools", "multipleOf"),
        ({"tools": [tool()], "tool_choice": "any"}, "tool_choice", "none, auto or required"),
        ({"tools": [tool()], "tool_choice": {"type": "x"}}, "tool_choice", "must be none"),
        (
            {"tools": [tool()], "tool_choice": {"type": "function", "function": {"name": "g"}}},
            "tool_choice",
            "the tools are f",
        ),
        ({"tools": [], "tool_choice": "required"}, "tool_choice", "no tools"),
        ({"tools": [tool()], "tool_choice": "required"}, "tool_choice", "not supported"),
        ({"messages": before(arguments="[1]")}, "messages", "no JSON object"),
        ({"messages": before(arguments='{"a":' * 99_000)}, "messages", "no JSON object"),
        ({"messages": before(arguments='{"a":' * 40 + "1" + "}" * 40)}, "messages", "32 deep"),
        ({"messages": before(type="custom")}, "messages", "of type 'custom'"),
        (
            {"messages": [{"role": "user", "tool_calls": [{"function": {"name": "f"}}]}]},
            "messages",
            "the assistant's",
        ),
    ],
)
async def test_mistakes_with_tools_say_what_to_do(asleep, fields, param, part):
    body = {"model": SPEC.model, "messages": HELLO, **fields}
    answer = await asleep.post("/v1/chat/completions", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param), error
    assert part in error["message"]
