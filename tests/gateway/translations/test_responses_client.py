"""OpenAI's Responses API with the official client, unchanged, over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import openai
import pytest
from benchmarks.fake_worker import SPEC, FakeWorker

from fairlead.gateway import Gateway
from tests.gateway.test_openai_client import said

SEEDED = {"extra_body": {"seed": 7}}


@pytest.fixture
async def client(gateway: Gateway, worker: FakeWorker) -> AsyncIterator[openai.AsyncOpenAI]:
    url = f"{gateway.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


async def test_a_response(client):
    response = await client.responses.create(
        model=SPEC.model, input="hello", max_output_tokens=5, metadata={"a": "b"}, **SEEDED
    )
    assert response.id.startswith("resp_")
    assert response.output_text == said(7, 5)
    assert (response.status, response.incomplete_details.reason) == (
        "incomplete",
        "max_output_tokens",
    )
    assert (response.usage.input_tokens, response.usage.output_tokens) == (12, 5)
    assert response.usage.total_tokens == 17
    assert response.metadata == {"a": "b"}


async def test_a_streamed_response(client):
    kinds, texts = [], []
    async with client.responses.stream(
        model=SPEC.model, input="hello", max_output_tokens=2, **SEEDED
    ) as stream:
        numbers = []
        async for event in stream:
            kinds.append(event.type)
            numbers.append(event.sequence_number)
            if event.type == "response.output_text.delta":
                texts.append(event.delta)
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    assert "".join(texts) == said(7, 2)
    assert numbers == list(range(10))


async def test_a_response_that_ends_by_itself_is_completed(client):
    stop = said(7, 40)[30:36]
    asked = {"model": SPEC.model, "input": "hello", "max_output_tokens": 40}
    extra = {"extra_body": {"seed": 7, "stop": stop}}
    whole = await client.responses.create(**asked, **extra)
    assert (whole.status, whole.incomplete_details) == ("completed", None)
    async with client.responses.stream(**asked, **extra) as stream:
        response = await stream.get_final_response()
    assert response.status == "completed"
    assert response.output_text == whole.output_text


async def test_instructions_and_items_become_messages_of_the_chat(client, worker):
    await client.responses.create(
        model=SPEC.model,
        max_output_tokens=2,
        instructions="be brief",
        input=[
            {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "b", "annotations": []}],
            },
            {"role": "developer", "content": "c"},
            {"role": "user", "content": "d"},
        ],
    )
    prompt = bytes(worker.submits[0].request.token_ids).decode()
    assert prompt == "system: be brief\nuser: a\nassistant: b\nsystem: c\nuser: d\n"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"input": []}, "input"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input"),
        ({"input": [{"role": "nobody", "content": "x"}]}, "input"),
        ({"max_output_tokens": 100_000}, "max_output_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format"),
        ({"text": {"format": {"type": "yaml"}}}, "text.format.type"),
    ],
)
async def test_mistakes_name_the_field_that_the_client_sent(client, fields, param):
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(model=SPEC.model, input="hello", extra_body=fields)
    assert caught.value.param == param


async def test_a_stream_that_breaks_ends_as_failed(impatient):
    by_hand = await FakeWorker().join(impatient.workers_address)
    async with openai.AsyncOpenAI(base_url=f"{impatient.url}/v1", api_key="none") as client:
        asking = asyncio.create_task(
            client.responses.create(model=SPEC.model, input="hello", stream=True)
        )
        await by_hand.until(lambda: bool(by_hand.submits))
        by_hand.step()
        stream = await asking
        by_hand.leave()
        events = [event async for event in stream]
    assert events[-1].type == "response.failed"
    assert events[-1].response.error.message
