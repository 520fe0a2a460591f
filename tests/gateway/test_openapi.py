"""The OpenAPI document, and a fuzzer that believes it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from benchmarks.fake_worker import SPEC, FakeWorker
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode

from fairlead.gateway import openapi
from tests.gateway.conftest import new_gateway
from tests.patience import PATIENCE_S

UNLIKELY = {"response_format", "output_format", "output_config", "text"} | {
    *("service_tier", "modalities", "thinking", "truncation", "dimensions")
}
"""Fields of whose values nearly all are refused."""
MUST_ANSWER = ("/v1/embeddings", "/v1/messages/count_tokens", "/v1/responses", "/v1/models")
N_EXAMPLES = 6
"""Of each operation and mode; `make test` must stay short."""


async def test_every_address_is_in_the_document(asleep):
    shown = (await asleep.get("/openapi.json")).json()
    app = new_gateway().app
    served = {(method.lower(), path) for method, path in app.routes}
    told = {(method, path) for path, methods in shown["paths"].items() for method in methods}
    assert told == served | {("get", "/v1/models/{model}")}


def test_every_reference_leads_somewhere():
    document = openapi.document()
    schemas = document["components"]["schemas"]
    wanted = set(_references(document))
    assert wanted
    assert wanted <= {f"#/components/schemas/{name}" for name in schemas}


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A gateway with a fake worker, on a loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    gateway = new_gateway()

    async def start() -> None:
        await gateway.start()
        await FakeWorker(pace_s=0).join(gateway.workers_address)

    asyncio.run_coroutine_threadsafe(start(), loop).result(20)
    yield gateway.url
    asyncio.run_coroutine_threadsafe(gateway.stop(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def _attacked() -> dict[str, Any]:
    """The document with models that exist, so that what is sent gets somewhere, and calls of which
    an answer is not the length of the test."""
    document = openapi.document()
    names = ("ChatBody", "CompletionBody", "MessageBody", "CountBody", "ResponseBody")
    for name in (*names, "EmbeddingBody"):
        fields = document["components"]["schemas"][name]["properties"]
        fields["model"] = {"enum": [SPEC.model]}
        if "n" in fields:
            fields["n"] = {"type": "integer", "minimum": 1, "maximum": 2}
        for most in {"max_tokens", "max_output_tokens"} & set(fields):
            fields[most] = {"type": "integer", "minimum": 1, "maximum": 64}
        for unlikely in UNLIKELY & set(fields):
            del fields[unlikely]
    for name in ("ChatMessage", "Turn", "Item"):
        parts = document["components"]["schemas"][name]["properties"]
        parts["role"] = {"enum": ["user"]}
        parts["content"] = {"type": "string"}
    return document


def _operations() -> list[str]:
    return [path for path in openapi.document()["paths"] if path.startswith("/v1")]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("path", _operations())
def test_nothing_that_is_sent_makes_the_gateway_stumble(url, path, mode):
    document = _attacked()
    (method,) = document["paths"][path]
    if mode is GenerationMode.NEGATIVE and path.startswith("/v1/models"):
        pytest.skip("nothing about it can be wrong")
    operation = schemathesis.openapi.from_dict(document)[path][method]
    statuses: set[int] = set()

    @hypothesis.settings(
        max_examples=N_EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def attack(case: Any) -> None:
        response = case.call(base_url=url, timeout=PATIENCE_S)
        case.validate_response(response, checks=[not_a_server_error])
        statuses.add(response.status_code)

    attack()
    if mode is GenerationMode.POSITIVE and path in MUST_ANSWER:
        assert 200 in statuses
    assert statuses
    assert httpx.get(f"{url}/health").status_code == 200
