"""The OpenAPI document, and a fuzzer that believes it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import httpx
import hypothesis
import pytest
from benchmarks.fake_worker import FakeWorker

schemathesis = pytest.importorskip("schemathesis", reason="needs fairlead[test]: schemathesis")

from schemathesis.checks import not_a_server_error

from fairlead.gateway import openapi
from tests.gateway.conftest import new_gateway

N_EXAMPLES = 12
"""Of each operation; `make test` must stay short."""


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


def _operations() -> list[str]:
    return [path for path in openapi.document()["paths"] if path.startswith("/v1")]


@pytest.mark.parametrize("path", _operations())
def test_no_body_makes_the_gateway_stumble(url, path):
    schema = schemathesis.openapi.from_dict(openapi.document())
    (method,) = openapi.document()["paths"][path]
    strategy = schema[path][method].as_strategy()
    seen: set[int] = set()

    @hypothesis.settings(
        max_examples=N_EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=strategy)
    def attack(case):
        response = case.call(base_url=url, timeout=10)
        case.validate_response(response, checks=[not_a_server_error])
        seen.add(response.status_code)

    attack()
    assert seen
    assert httpx.get(f"{url}/health").status_code == 200
