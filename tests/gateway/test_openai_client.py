"""The official client, unchanged, over a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator

import openai
import pytest
from benchmarks.fake_worker import SPEC, WORDS, FakeWorker, word_at

from fairlead.gateway import Gateway

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
async def client(gateway: Gateway, worker: FakeWorker) -> AsyncIterator[openai.AsyncOpenAI]:
    url = f"{gateway.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


def said(seed: int, n: int) -> str:
    return "".join(WORDS[word_at(seed, position)] + " " for position in range(n))


async def test_chat(client):
    answer = await client.chat.completions.create(
        model=SPEC.model, messages=HELLO, max_tokens=5, seed=7
    )
    assert answer.id.startswith("chatcmpl-")
    assert answer.choices[0].message.content == said(7, 5)
    assert answer.choices[0].finish_reason == "length"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (12, 5)


async def test_streamed_chat(client):
    stream = await client.chat.completions.create(
        model=SPEC.model,
        messages=HELLO,
        max_tokens=5,
        seed=7,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks[:-1]]
    assert "".join(texts) == said(7, 5)
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 5
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_n_choices_differ_and_the_first_has_the_seed_itself(client):
    answer = await client.chat.completions.create(
        model=SPEC.model, messages=HELLO, max_tokens=8, seed=7, n=3
    )
    texts = [choice.message.content for choice in answer.choices]
    assert texts[0] == said(7, 8)
    assert len(set(texts)) == 3
    assert answer.usage.completion_tokens == 24
    assert answer.usage.prompt_tokens == 12


async def test_streamed_choices_carry_their_index(client):
    stream = await client.chat.completions.create(
        model=SPEC.model, messages=HELLO, max_tokens=4, seed=7, n=2, stream=True
    )
    texts = {0: "", 1: ""}
    ends = {}
    async for chunk in stream:
        choice = chunk.choices[0]
        texts[choice.index] += choice.delta.content or ""
        ends[choice.index] = choice.finish_reason
    assert texts[0] == said(7, 4)
    assert texts[1] != texts[0]
    assert ends == {0: "length", 1: "length"}


async def test_without_a_seed_answers_differ(client):
    answers = [
        await client.chat.completions.create(model=SPEC.model, messages=HELLO, max_tokens=12)
        for _ in range(2)
    ]
    assert answers[0].choices[0].message.content != answers[1].choices[0].message.content


@pytest.mark.parametrize("stream", [False, True])
async def test_logprobs_of_a_chat(client, stream):
    answer = await client.chat.completions.create(
        model=SPEC.model,
        messages=HELLO,
        max_tokens=2,
        seed=7,
        logprobs=True,
        top_logprobs=2,
        stream=stream,
    )
    if stream:
        shown = [chunk.choices[0].logprobs async for chunk in answer]
        tokens = [entry for part in shown if part for entry in part.content]
    else:
        tokens = answer.choices[0].logprobs.content
    assert [token.token for token in tokens] == [WORDS[word_at(7, k)] + " " for k in range(2)]
    assert tokens[0].logprob == -0.5
    assert bytes(tokens[0].bytes).decode() == tokens[0].token
    assert [top.logprob for top in tokens[0].top_logprobs] == [-0.5, -1.5]


async def test_logprobs_of_a_completion(client):
    answer = await client.completions.create(
        model=SPEC.model, prompt="hello", max_tokens=2, seed=7, logprobs=2
    )
    shown = answer.choices[0].logprobs
    assert "".join(shown.tokens) == answer.choices[0].text == said(7, 2)
    assert shown.token_logprobs == [-0.5, -0.5]
    assert shown.text_offset == [0, len(shown.tokens[0])]
    assert len(shown.top_logprobs[0]) == 2


async def test_stop_strings_reach_the_worker_and_end_the_answer(client, worker):
    text = said(7, 40)
    stop = text[30:36]
    answer = await client.chat.completions.create(
        model=SPEC.model, messages=HELLO, max_tokens=40, seed=7, stop=stop
    )
    assert worker.submits[0].request.sampling.stop == (stop,)
    assert answer.choices[0].finish_reason == "stop"


async def test_completions_of_several_prompts(client):
    answer = await client.completions.create(
        model=SPEC.model, prompt=["a" * 64, "bc"], max_tokens=3, n=2, seed=7
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.choices[0].text == answer.choices[2].text == said(7, 3)
    assert answer.usage.prompt_tokens == 66
    assert answer.usage.completion_tokens == 12
    assert answer.usage.prompt_tokens_details.cached_tokens == 32


async def test_streamed_completion_of_token_ids(client, worker):
    stream = await client.completions.create(
        model=SPEC.model, prompt=[104, 105], max_tokens=3, seed=7, stream=True
    )
    assert "".join([chunk.choices[0].text async for chunk in stream]) == said(7, 3)
    assert list(worker.submits[0].request.token_ids) == [104, 105]


async def test_models(client):
    (model,) = [model async for model in client.models.list()]
    assert model.id == SPEC.model
    assert model.fairlead["vocab"] == [32, 126]
    assert model.fairlead["max_context"] == 512
    assert model.fairlead["objectives"]["interactive"] == {"ttft_s": 60.0, "tpot_s": 30.0}
    assert (await client.models.retrieve(SPEC.model)).id == SPEC.model
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("nothing")


async def test_mistakes_become_the_clients_exceptions(client):
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model=SPEC.model, messages=HELLO, temperature=9)
    assert caught.value.param == "temperature"
    with pytest.raises(openai.NotFoundError) as missing:
        await client.chat.completions.create(model="nothing", messages=HELLO)
    assert missing.value.code == "model_not_found"
