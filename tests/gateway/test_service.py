"""Health, metrics, keys, browsers, and how a gateway stops."""

from __future__ import annotations

import asyncio
import re

import httpx
import pytest
from benchmarks.fake_worker import SPEC, FakeWorker

from fairlead.memory import chain_hashes
from fairlead.observe.metrics import Metrics
from tests.gateway.conftest import new_gateway
from tests.patience import PATIENCE_S

CHAT = "/v1/chat/completions"
BODY = {
    "model": SPEC.model,
    "messages": [{"role": "user", "content": "hello there, ship"}],
    "max_tokens": 3,
    "seed": 1,
}


def in_memory(gateway):
    transport = httpx.ASGITransport(gateway.app)
    return httpx.AsyncClient(transport=transport, base_url="http://gateway")


async def test_ready_means_an_instance_in_every_pool(http, gateway):
    assert (await http.get("/health")).json() == {"status": "ok"}
    waiting = await http.get("/ready")
    assert (waiting.status_code, waiting.json()["pools_without_instance"]) == (503, ["chat"])
    worker = await FakeWorker().join(gateway.workers_address)
    assert (await http.get("/ready")).status_code == 200
    head = await http.head("/ready")
    assert (head.status_code, head.content) == (200, b"")
    worker.leave()
    await worker.until(lambda: worker.closed)
    async with asyncio.timeout(PATIENCE_S):
        while (await http.get("/ready")).status_code != 503:
            await asyncio.sleep(0.01)


async def test_metrics_tell_what_happened(http, gateway, worker):
    await http.post(CHAT, json=BODY)
    await http.post(CHAT, json=BODY | {"service_tier": "batch"})
    await worker.until(lambda: gateway.metrics.exposition().count(b"instance_running{"))
    answer = await http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    lines = answer.text.splitlines()
    for line in (
        'fairlead_requests_total{class="interactive",outcome="finished"} 1.0',
        'fairlead_objective_met_total{class="batch"} 1.0',
        'fairlead_ttft_seconds_count{class="interactive"} 1.0',
        'fairlead_tpot_seconds_count{class="interactive"} 1.0',
        'fairlead_e2e_seconds_bucket{class="batch",le="+Inf"} 1.0',
        "fairlead_output_tokens_total 6.0",
        "fairlead_prompt_tokens_total 48.0",
        "fairlead_cached_tokens_total 0.0",
        'fairlead_dispatches_total{why="routed"} 2.0',
        "fairlead_resumed_total 0.0",
        "fairlead_requests_under_way 0.0",
        'fairlead_instances{state="up"} 1.0',
        'fairlead_instance_waiting{instance="fake"} 0.0',
        'fairlead_instance_kv_fraction{instance="fake"} 0.25',
        "fairlead_instance_deaths_total 0.0",
    ):
        assert line in lines


async def test_gauges_of_an_instance_go_with_it(gateway, by_hand):
    await by_hand.until(lambda: True)
    async with asyncio.timeout(PATIENCE_S):
        while b"instance_running{" not in gateway.metrics.exposition():
            await asyncio.sleep(0.01)
    by_hand.leave()
    async with asyncio.timeout(PATIENCE_S):
        while b"instance_running{" in gateway.metrics.exposition():
            await asyncio.sleep(0.01)
    assert b"fairlead_instance_deaths_total 1.0" in gateway.metrics.exposition()


async def test_what_was_predicted_is_held_against_what_happened(http, gateway, worker):
    await http.post(CHAT, json=BODY)
    counts = re.findall(
        rb'prediction_error_seconds_count\{of="ttft",was="\w+"\} (\S+)',
        gateway.metrics.exposition(),
    )
    assert sorted(map(float, counts)) == [0, 1]


def test_metrics_of_nothing_are_complete():
    text = Metrics().exposition().decode()
    for name in ("requests", "objective_met", "objective_missed", "rejections", "preemptions"):
        assert f"# TYPE fairlead_{name}_total counter" in text


async def test_with_keys_only_their_holders_get_in_as_their_tenant():
    gateway = new_gateway(api_keys={"key-a": "a", "key-b": "b"})
    await gateway.start()
    worker = await FakeWorker(pace_s=0).join(gateway.workers_address)
    async with in_memory(gateway) as client:
        for headers in ({}, {"Authorization": "Bearer key-c"}, {"Authorization": "Basic key-a"}):
            answer = await client.post(CHAT, json=BODY, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
            assert (await client.get("/v1/models", headers=headers)).status_code == 401
        assert (await client.get("/health")).status_code == 200
        for key in ("key-a", "key-b"):
            await client.post(CHAT, json=BODY, headers={"Authorization": f"Bearer {key}"})
    a, b = (submit.request for submit in worker.submits)
    assert (a.tenant, b.tenant) == ("a", "b")
    assert a.block_hashes == chain_hashes(a.token_ids, 16, b"a")
    assert a.block_hashes[0] != b.block_hashes[0]
    await gateway.stop()


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/files", "/v1/files/file-1", "/v1/files/file-1/content", "/v1/batches"),
        *("/v1/batches/b/cancel", "/v1/models/m", "/v1/messages", "/v1/responses"),
    ],
)
async def test_browsers_may_ask_before_they_call_at_every_address(path):
    gateway = new_gateway(cors_origins=("https://ship.example",), api_keys={"k": "a"})
    async with in_memory(gateway) as client:
        asks = {"Origin": "https://ship.example", "Access-Control-Request-Method": "DELETE"}
        answer = await client.options(path, headers=asks)
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == "https://ship.example"
        assert "DELETE" in answer.headers["access-control-allow-methods"]


async def test_browsers_of_other_origins_are_let_in_by_list_only():
    gateway = new_gateway(cors_origins=("https://ship.example",))
    async with in_memory(gateway) as client:
        ours = {"Origin": "https://ship.example", "Access-Control-Request-Method": "POST"}
        theirs = ours | {"Origin": "https://other.example"}
        allowed = await client.options(CHAT, headers=ours)
        assert allowed.status_code == 204
        assert allowed.headers["access-control-allow-origin"] == "https://ship.example"
        assert (
            "access-control-allow-origin"
            not in (await client.options(CHAT, headers=theirs)).headers
        )
        assert (
            "access-control-allow-origin" in (await client.get("/v1/models", headers=ours)).headers
        )
    async with in_memory(new_gateway()) as client:
        assert (
            "access-control-allow-origin" not in (await client.get("/health", headers=ours)).headers
        )


@pytest.fixture
async def busy(gateway, by_hand):
    """A gateway with a streamed request under way."""
    client = httpx.AsyncClient(base_url=gateway.url)
    asking = asyncio.create_task(client.post(CHAT, json=BODY | {"stream": True}))
    await by_hand.until(lambda: by_hand.submits)
    by_hand.step()
    yield gateway, by_hand, asking
    await client.aclose()


async def test_draining_takes_nothing_new_and_lets_the_rest_end(busy):
    gateway, worker, asking = busy
    draining = asyncio.create_task(gateway.drain(5.0))
    await asyncio.sleep(0.05)
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        assert (await client.get("/ready")).status_code == 503
        refused = await client.post(CHAT, json=BODY)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
        assert "retry-after" in refused.headers
    worker.step()
    worker.step()
    answer = await asking
    assert answer.text.endswith("data: [DONE]\n\n")
    await draining
    await worker.until(lambda: worker.closed)


async def test_draining_ends_in_time_whatever_is_left(busy):
    gateway, worker, asking = busy
    await gateway.drain(0.1)
    assert "this server stopped" in (await asking).text
    await worker.until(lambda: worker.closed)
