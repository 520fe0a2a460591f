"""What is in the ledger is what went out, to the token, whoever died on the way."""

from __future__ import annotations

import asyncio
import json

import pytest
from benchmarks.fake_worker import SPEC, FakeWorker

from fairlead.model import RefuseWhy
from fairlead.store.database import StoreError
from fairlead.worker import wire
from tests.gateway.tenants.conftest import CHAT, NewService, Service, body
from tests.patience import PATIENCE_S
from tests.store.conftest import KINDS


async def test_a_call_is_in_the_ledger_as_its_answer_says(service: Service) -> None:
    await service.worker()
    said = []
    async with service.client(service.key("acme")) as client:
        for changes in ({}, {"n": 3}, {"max_tokens": 7}, {"messages": [*body()["messages"]] * 9}):
            answer = await client.post(CHAT, json=body(**changes))
            said.append(answer.json()["usage"])
        prompts = {"model": SPEC.model, "prompt": ["a b c d", "hello"], "n": 2, "max_tokens": 2}
        said.append((await client.post("/v1/completions", json=prompts)).json()["usage"])
    calls = await service.calls()
    assert [
        (call.prompt_tokens, call.output_tokens, call.cached_tokens, call.outcome) for call in calls
    ] == [
        (
            usage["prompt_tokens"],
            usage["completion_tokens"],
            usage["prompt_tokens_details"]["cached_tokens"],
            "finished",
        )
        for usage in said
    ]
    assert calls[3].cached_tokens > 0
    assert await service.calls() == calls  # Written once.


async def test_embeddings_count_their_prompts_alone(service: Service) -> None:
    await service.worker()
    async with service.client(service.key("acme")) as client:
        asked = {"model": SPEC.model, "input": ["hello", "be"]}
        answer = await client.post("/v1/embeddings", json=asked)
        assert answer.json()["usage"]["total_tokens"] == 7
    (call,) = await service.calls()
    assert (call.prompt_tokens, call.output_tokens, call.outcome) == (7, 0, "finished")


async def test_a_stream_that_its_client_leaves_counts_what_was_sent(service: Service) -> None:
    worker = await service.worker(pace_s=None)

    async def speak() -> None:
        await worker.until(lambda: worker.submits)
        for _ in range(5):
            worker.step()

    speaking = asyncio.create_task(speak())
    async with (
        service.client(service.key("acme")) as client,
        client.stream("POST", CHAT, json=body(stream=True, max_tokens=50)) as answer,
    ):
        text = ""
        async for line in answer.aiter_lines():
            text += line
            if text.count('"content":"') == 6:  # That of the role, and five words.
                break
    await speaking
    await worker.until(lambda: worker.aborted)
    (call,) = await service.calls()
    assert (call.outcome, call.prompt_tokens, call.output_tokens) == ("cancelled", 24, 5)


async def test_a_worker_that_dies_costs_nobody_a_token(service: Service) -> None:
    first = await service.worker(pace_s=None)
    async with service.client(service.key("acme")) as client:
        asking = asyncio.create_task(
            client.post(
                CHAT,
                json=body(stream=True, max_tokens=6, stream_options={"include_usage": True}),
            )
        )
        await first.until(lambda: first.submits)
        for _ in range(3):
            first.step()
        second = await FakeWorker(pace_s=0).join(service.gateway.workers_address)
        first.leave()
        lines = (await asking).text.split("\n\n")
    usage = json.loads(lines[-3].removeprefix("data: "))["usage"]
    (call,) = await service.calls()
    assert len(second.submits[0].produced) == 3
    assert (call.prompt_tokens, call.output_tokens) == (24, 6)
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (24, 6)


async def test_what_was_rejected_or_let_down_before_a_token_costs_nothing(
    service: Service,
) -> None:
    worker = await service.worker(pace_s=None)
    key = service.key("acme", tokens_per_minute=1000, max_concurrent=2)
    async with service.client(key) as client:
        asking = asyncio.create_task(client.post(CHAT, json=body()))
        await worker.until(lambda: worker.submits)
        worker.send(wire.Rejected(worker.submits[0].request.id, 1, RefuseWhy.TOO_LONG))
        assert (await asking).status_code == 400
        assert (await client.post(CHAT, json=body(max_tokens=-1))).status_code == 400
    assert await service.calls() == []
    account = service.door._accounts["acme"]
    assert (account.n_under_way, account.unsettled_tokens) == (0, 0)
    assert account.tokens.used(1000, 1e10) == 0


async def test_a_stream_that_fails_counts_what_was_sent(service: Service) -> None:
    worker = await service.worker(pace_s=None)
    async with service.client(service.key("acme")) as client:
        streamed = asyncio.create_task(client.post(CHAT, json=body(stream=True, max_tokens=9)))
        await worker.until(lambda: len(worker.submits) == 1)
        whole = asyncio.create_task(client.post(CHAT, json=body(max_tokens=9)))
        await worker.until(lambda: len(worker.submits) == 2)
        worker.step()
        worker.step()
        async with asyncio.timeout(PATIENCE_S):
            while service.door._accounts["acme"].unsettled_tokens < 2 * (24 + 2):
                await asyncio.sleep(0.01)
        usage = service.usage
        await service.gateway.stop()
        assert b'"error"' in (await streamed).content
        assert (await whole).status_code == 503
    (call,) = usage.calls()
    assert (call.outcome, call.prompt_tokens, call.output_tokens) == ("failed", 24, 2)


async def test_calls_wait_for_a_database_that_does_not_answer(service: Service) -> None:
    await service.worker()
    books = service.door._books
    exchange = books.exchange

    def broken(*arguments: object) -> object:
        raise StoreError("no route to host")

    async with service.client(service.key("acme")) as client:
        assert (await client.post(CHAT, json=body())).status_code == 200
        books.exchange = broken  # type: ignore[assignment, method-assign]
        for _ in range(3):
            assert (await client.post(CHAT, json=body())).status_code == 200
            with pytest.raises(StoreError):
                await service.door.sync()
        books.exchange = exchange  # type: ignore[method-assign]
    assert len(await service.calls()) == 4
    (total,) = service.usage.totals(["tenant"])
    assert (total["calls"], total["output_tokens"]) == (4, 12)


@pytest.mark.parametrize("where", KINDS, indirect=True)
async def test_two_gateways_share_keys_limits_and_budgets(new_service: NewService) -> None:
    one: Service = await new_service()
    two: Service = await new_service()
    for service in (one, two):
        await service.worker()
    key = one.key("acme", requests_per_minute=4, max_concurrent=5, budget_tokens=200)
    first, second = one.client(key), two.client(key)

    async def sync() -> None:
        for service in (one, two, one):
            await service.door.sync()

    async with first, second:
        for client in (first, first, second):
            assert (await client.post(CHAT, json=body())).status_code == 200
        await sync()
        assert (await second.post(CHAT, json=body())).status_code == 200
        await sync()
        answers = [await client.post(CHAT, json=body()) for client in (first, second)]
        assert [answer.status_code for answer in answers] == [429, 429]
        assert 1 <= int(answers[0].headers["retry-after"]) <= 15
        one.tenants.put("acme", {"requests_per_minute": None, "max_concurrent": 2}, 2.0)
        await sync()
        two.door._accounts["acme"].open(1)
        await sync()
        answer = await first.post(CHAT, json=body(n=2))
        assert (answer.status_code, answer.json()["error"]["code"]) == (
            429,
            "concurrency_limit_exceeded",
        )
        for client in (first, second, first):  # 4 * 27 so far; the budget is 200.
            two.door._accounts["acme"].n_under_way = 0
            assert (await client.post(CHAT, json=body())).status_code == 200
            await sync()
        assert (await first.post(CHAT, json=body())).status_code == 200
        await sync()
        answer = await second.post(CHAT, json=body())
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "insufficient_quota")
    assert sum(call.tokens for call in await one.calls()) == 8 * 27
