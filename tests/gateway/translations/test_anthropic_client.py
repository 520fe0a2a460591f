"""Anthropic's official client, unchanged, over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import anthropic
import httpx
import pytest
from benchmarks.fake_worker import SPEC, FakeWorker

from fairlead.gateway import Gateway
from tests.gateway.conftest import new_gateway
from tests.gateway.test_openai_client import said

HELLO = [{"role": "user", "content": "hello"}]
SEEDED = {"extra_body": {"seed": 7}}


@pytest.fixture
async def client(gateway: Gateway, worker: FakeWorker) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        base_url=gateway.url, api_key="none", max_retries=0
    ) as client:
        yield client


async def test_a_message(client):
    message = await client.messages.create(model=SPEC.model, max_tokens=5, messages=HELLO, **SEEDED)
    assert message.id.startswith("msg_")
    assert (message.type, message.role, message.model) == ("message", "assistant", SPEC.model)
    assert message.content[0].text == said(7, 5)
    assert (message.stop_reason, message.stop_sequence) == ("max_tokens", None)
    assert (message.usage.input_tokens, message.usage.output_tokens) == (12, 5)


async def test_a_streamed_message(client):
    async with client.messages.stream(
        model=SPEC.model, max_tokens=5, messages=HELLO, **SEEDED
    ) as stream:
        texts = [text async for text in stream.text_stream]
        message = await stream.get_final_message()
    assert len(texts) == 5
    assert "".join(texts) == message.content[0].text == said(7, 5)
    assert message.stop_reason == "max_tokens"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (12, 5)


async def test_the_events_of_a_stream_come_in_anthropics_order(client):
    stream = await client.messages.create(
        model=SPEC.model, max_tokens=2, messages=HELLO, stream=True, **SEEDED
    )
    kinds = [event.type async for event in stream]
    assert kinds == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_stop_sequence_that_was_met_is_told(client, worker, stream):
    stop = said(7, 40)[30:36]
    asked = {"model": SPEC.model, "max_tokens": 40, "messages": HELLO, **SEEDED}
    if stream:
        async with client.messages.stream(stop_sequences=["never", stop], **asked) as events:
            message = await events.get_final_message()
    else:
        message = await client.messages.create(stop_sequences=["never", stop], **asked)
    assert worker.submits[0].request.sampling.stop == ("never", stop)
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", stop)


async def test_system_prompts_and_blocks_become_messages_of_the_chat(client, worker):
    await client.messages.create(
        model=SPEC.model,
        max_tokens=2,
        system=[{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}],
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "a"}]},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"},
        ],
    )
    prompt = bytes(worker.submits[0].request.token_ids).decode()
    assert prompt == "system: be brief\nuser: a\nassistant: b\nuser: c\n"


async def test_cached_tokens_are_counted_beside_the_others(client):
    message = await client.messages.create(
        model=SPEC.model, max_tokens=2, messages=[{"role": "user", "content": "x" * 57}]
    )
    assert (message.usage.cache_read_input_tokens, message.usage.input_tokens) == (32, 32)


async def test_the_end_user_and_the_tier_arrive(client, worker):
    await client.messages.create(
        model=SPEC.model,
        max_tokens=2,
        messages=HELLO,
        metadata={"user_id": "u1"},
        extra_body={"service_tier": "batch"},
    )
    request = worker.submits[0].request
    assert (request.user, request.objective.name) == ("u1", "batch")


async def test_tokens_are_counted_without_a_worker(client, worker):
    count = await client.messages.count_tokens(model=SPEC.model, messages=HELLO, system="hi")
    assert count.input_tokens == len("system: hi\nuser: hello\n")
    assert worker.submits == []


async def test_mistakes_become_the_clients_exceptions_in_anthropics_shape(client):
    with pytest.raises(anthropic.BadRequestError) as caught:
        await client.messages.create(
            model=SPEC.model, max_tokens=5, messages=HELLO, extra_body={"temperature": 2}
        )
    assert caught.value.body["type"] == "error"
    assert caught.value.body["error"]["type"] == "invalid_request_error"
    assert "temperature" in caught.value.body["error"]["message"]
    with pytest.raises(anthropic.NotFoundError) as missing:
        await client.messages.create(model="nothing", max_tokens=5, messages=HELLO)
    assert missing.value.body["error"]["type"] == "not_found_error"


IMAGE = {"type": "image", "source": {"type": "url", "url": "http://10.0.0.1/"}}


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"mcp_servers": [{"type": "url", "url": "http://x", "name": "x"}]}, "mcp_servers"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
        ({"messages": [*HELLO, {"role": "assistant", "content": "{"}]}, "last message"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "image"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "tool"),
        ({"messages": []}, "messages"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, "constrain"),
    ],
)
async def test_what_cannot_be_had_is_refused_by_name(client, fields, word):
    with pytest.raises(anthropic.BadRequestError, match=word):
        await client.messages.create(
            model=SPEC.model, max_tokens=5, messages=HELLO, extra_body=fields
        )


async def test_who_waited_too_long_is_told_when_to_try_again(impatient):
    async with httpx.AsyncClient(base_url=impatient.url) as http:
        body = {"model": SPEC.model, "max_tokens": 5, "messages": HELLO}
        answer = await http.post("/v1/messages", json=body)
    assert answer.status_code == 429
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert int(answer.headers["retry-after"]) > 0


async def test_a_stream_that_breaks_ends_with_an_error_event(impatient):
    by_hand = await FakeWorker().join(impatient.workers_address)
    async with anthropic.AsyncAnthropic(
        base_url=impatient.url, api_key="none", max_retries=0
    ) as client:
        stream = await _begun(client, by_hand)
        by_hand.leave()
        with pytest.raises(anthropic.APIStatusError) as caught:
            async for _ in stream:
                pass
    assert caught.value.body["error"]["type"] == "overloaded_error"


async def _begun(client, worker):
    """A stream whose first token is out."""
    asking = asyncio.create_task(
        client.messages.create(model=SPEC.model, max_tokens=5, messages=HELLO, stream=True)
    )
    await worker.until(lambda: bool(worker.submits))
    worker.step()
    return await asking


async def test_keys_may_come_as_anthropics_clients_send_them():
    gateway = new_gateway(api_keys={"k1": "acme"})
    await gateway.start()
    try:
        worker = await FakeWorker(pace_s=0).join(gateway.workers_address)
        asked = {"model": SPEC.model, "max_tokens": 1, "messages": HELLO}
        async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key="k1") as client:
            await client.messages.create(**asked)
        assert worker.submits[0].request.tenant == "acme"
        async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key="k2") as client:
            with pytest.raises(anthropic.AuthenticationError) as caught:
                await client.messages.create(**asked)
        assert caught.value.body["error"]["type"] == "authentication_error"
    finally:
        await gateway.stop()
