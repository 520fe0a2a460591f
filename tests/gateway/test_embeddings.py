"""`/v1/embeddings`: vectors of texts, whoever dies on the way, counted by their prompts alone."""

from __future__ import annotations

import asyncio
import base64
import struct

import openai
import pytest
from benchmarks.fake_worker import SPEC, FakeWorker

from fairlead.gateway.embeddings import shortened
from fairlead.model import RefuseWhy
from fairlead.worker import wire

PATH = "/v1/embeddings"


def body(given, **more):
    return {"model": SPEC.model, "input": given, **more}


def plain(n):
    """What a fake worker makes of a prompt of so many tokens."""
    return [float((k + 1) * n) for k in range(4)]


@pytest.mark.parametrize(
    ("given", "lengths"),
    [
        ("hello", [5]),
        (["hello", "be"], [5, 2]),
        ([1, 2, 3], [3]),
        ([[1, 2, 3], [4]], [3, 1]),
        ("é", [2]),
    ],
)
async def test_every_form_of_input_has_its_vectors_in_order(http, worker, given, lengths):
    answer = (await http.post(PATH, json=body(given))).json()
    assert (answer["object"], answer["model"]) == ("list", SPEC.model)
    assert answer["data"] == [
        {"object": "embedding", "index": i, "embedding": plain(n)} for i, n in enumerate(lengths)
    ]
    assert answer["usage"] == {"prompt_tokens": sum(lengths), "total_tokens": sum(lengths)}
    assert all(submit.request.embeds for submit in worker.submits)
    assert {submit.request.max_tokens for submit in worker.submits} == {1}


async def test_base64_is_the_same_vector(http, worker):
    answer = (await http.post(PATH, json=body("hello", encoding_format="base64"))).json()
    packed = base64.b64decode(answer["data"][0]["embedding"])
    assert [*struct.unpack("<4f", packed)] == plain(5)


async def test_openais_own_client_reads_them(gateway, worker):
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none") as client:
        found = await client.embeddings.create(model=SPEC.model, input=["hello", "be"])
        assert [one.embedding for one in found.data] == [plain(5), plain(2)]


async def test_fewer_dimensions_are_the_first_at_unit_length(http, worker):
    answer = (await http.post(PATH, json=body("hello", dimensions=2))).json()
    vector = answer["data"][0]["embedding"]
    assert vector == pytest.approx([1 / 5**0.5, 2 / 5**0.5])
    assert shortened(struct.pack("<2f", 0, 0), 1) == struct.pack("<f", 0)
    too_many = await http.post(PATH, json=body("hello", dimensions=5))
    assert too_many.status_code == 400
    assert too_many.json()["error"]["param"] == "dimensions"


@pytest.mark.parametrize(
    ("changes", "status", "param", "code"),
    [
        ({"model": "other"}, 404, "model", "model_not_found"),
        ({"input": "x" * 512}, 400, "input", "context_length_exceeded"),
        ({"input": ["ok", "x" * 600]}, 400, "input", "context_length_exceeded"),
        ({"input": ""}, 400, "input", None),
        ({"input": []}, 400, "input", "invalid_value"),
        ({"input": [[]]}, 400, "input", None),
        ({"input": ["a", 1]}, 400, "input", "invalid_value"),
        ({"input": [300]}, 400, "input", None),
        ({"input": [[1], [-1]]}, 400, "input", None),
        ({"input": {"text": "a"}}, 400, "input", "invalid_value"),
        ({"input": ["a"] * 257}, 400, "n", None),
        ({"encoding_format": "int8"}, 400, "encoding_format", "invalid_value"),
        ({"dimensions": 0}, 400, "dimensions", "invalid_value"),
        ({"service_tier": "none"}, 400, "service_tier", "invalid_value"),
    ],
)
async def test_what_cannot_be_is_refused_by_name(http, changes, status, param, code):
    answer = await http.post(PATH, json=body("hello") | changes)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (status, param, code)


async def test_an_engine_without_vectors_refuses_clearly(gateway, http, by_hand):
    call = asyncio.create_task(http.post(PATH, json=body("hello")))
    await by_hand.until(lambda: by_hand.submits)
    (submit,) = by_hand.submits
    said = "this kind of engine has no vectors"
    by_hand.send(wire.Rejected(submit.request.id, submit.attempt, RefuseWhy.UNSUPPORTED, said))
    answer = await call
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]


async def test_a_worker_that_dies_costs_no_vector(gateway, http, by_hand):
    call = asyncio.create_task(http.post(PATH, json=body(["hello", "be"])))
    await by_hand.until(lambda: len(by_hand.submits) == 2)
    by_hand.transport.abort()
    other = await FakeWorker(pace_s=0).join(gateway.workers_address)
    answer = (await call).json()
    assert [one["embedding"] for one in answer["data"]] == [plain(5), plain(2)]
    assert len(other.submits) == 2


async def test_an_instance_that_sends_no_vector_is_a_503(http, by_hand):
    call = asyncio.create_task(http.post(PATH, json=body("hello")))
    await by_hand.until(lambda: by_hand.submits)
    (submit,) = by_hand.submits
    row = wire.Row(submit.request.id, submit.attempt, 0, [1], "x")
    by_hand.send(wire.Frame([row], [wire.End(row.request, row.attempt, *_END)]))
    answer = await call
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_vector")


_END = (wire.FinishReason.LENGTH, 0)
