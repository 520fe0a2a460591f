"""The dashboard's pages over HTTP: who may watch, what the stream says, and what it may cost."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from benchmarks.fake_worker import SPEC, FakeWorker

import fairlead.gateway
from fairlead.gateway import Gateway
from fairlead.observe.window import apply
from tests.gateway.conftest import new_gateway
from tests.patience import PATIENCE_S

ASSETS = Path(fairlead.gateway.__file__).parent / "dashboard"
BODY = {"model": SPEC.model, "prompt": "a secret prompt", "max_tokens": 3, "seed": 1}


async def events(answer: httpx.Response) -> AsyncIterator[tuple[str, Any]]:
    kind = ""
    async for line in answer.aiter_lines():
        if line.startswith("event: "):
            kind = line[7:]
        elif line.startswith("data: "):
            yield kind, json.loads(line[6:])


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[tuple[Gateway, httpx.AsyncClient]]:
    gateway = new_gateway(**{"tick_s": 0.05, **settings})
    await gateway.start()
    try:
        async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
            yield gateway, client
    finally:
        await gateway.stop()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_the_page_and_its_parts_are_served_and_let_nothing_else_in(http):
    for path in ("/dashboard", *(f"/dashboard/{file.name}" for file in ASSETS.iterdir())):
        if path.endswith("index.html"):
            continue
        answer = await http.get(path)
        assert answer.status_code == 200, path
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert (await http.get("/dashboard/nothing.js")).status_code == 404
    assert (await http.post("/dashboard")).status_code in (404, 405)
    head = await http.head("/dashboard")
    assert (head.status_code, head.content) == (200, b"")


def test_no_part_of_the_page_names_another_host_or_sets_markup():
    for file in ASSETS.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//[a-z]+\.", text), file.name
        assert "innerHTML" not in text, file.name
        assert "<script>" not in text, file.name
        assert 'style="' not in text, file.name


async def test_the_stream_begins_whole_and_goes_on_with_what_changes():
    async with serving() as (gateway, client):
        await FakeWorker(pace_s=0).join(gateway.workers_address)
        async with client.stream("GET", "/dashboard/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            heard = events(answer)
            kind, state = await anext(heard)
            assert kind == "state"
            await client.post("/v1/completions", json=BODY)
            async with asyncio.timeout(PATIENCE_S):
                while not state["requests"] or "fake" not in state["instances"]:
                    kind, change = await anext(heard)
                    assert kind == "change"
                    state = apply(state, change)
        (row,) = state["requests"].values()
        assert row[state["columns"]["requests"].index("state")] == "met"
        whole = (await client.get("/dashboard/state")).json()
        assert whole["requests"] == state["requests"]
        assert "secret prompt" not in json.dumps(whole)


async def test_a_newcomer_and_who_was_there_before_see_the_same():
    async with (
        serving(tick_s=60) as (gateway, client),
        client.stream("GET", "/dashboard/events") as first,
    ):
        old = events(first)
        _, state = await anext(old)
        await FakeWorker(pace_s=0).join(gateway.workers_address)
        async with client.stream("GET", "/dashboard/events") as second:
            _, fresh = await anext(events(second))
            _, change = await anext(old)
            assert apply(state, change) == fresh
            assert "fake" in fresh["instances"]


async def test_who_leaves_is_forgotten_and_nobody_is_told_anything():
    async with serving() as (gateway, client):
        async with client.stream("GET", "/dashboard/events") as answer:
            await anext(events(answer))
            assert gateway.window is not None
            assert gateway.window.n_watchers == 1
        async with asyncio.timeout(PATIENCE_S):
            while gateway.window.n_watchers:
                await asyncio.sleep(0.01)


async def test_more_watchers_than_are_allowed_are_told_to_come_later():
    async with (
        serving(max_watchers=1) as (_, client),
        client.stream("GET", "/dashboard/events") as answer,
    ):
        await anext(events(answer))
        refused = await client.get("/dashboard/events")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert (await client.get("/dashboard/state")).status_code == 200


async def test_a_gateway_that_stops_says_goodbye():
    async with (
        serving() as (gateway, client),
        client.stream("GET", "/dashboard/events") as answer,
    ):
        heard = events(answer)
        await anext(heard)
        await gateway.stop()
        kinds = [kind async for kind, _ in heard]
        assert kinds[-1] == "bye"


async def test_a_story_is_told_by_the_id_of_the_answer():
    async with serving() as (gateway, client):
        await FakeWorker(pace_s=0).join(gateway.workers_address)
        answer = (await client.post("/v1/completions", json=BODY)).json()
        story = (await client.get(f"/dashboard/story/{answer['id']}")).json()
        assert story["ended"]
        assert story["moments"][0][1] == "arrived"
        assert "sent to fake" in story["moments"][1][1]
        assert story["verdict"].startswith("objective met")
        unknown = await client.get("/dashboard/story/r0%2F..%2F<b>")
        assert unknown.status_code == 404
        assert "fairlead story LOG ID" in unknown.json()["error"]["message"]


async def test_where_there_are_keys_the_data_want_one_and_the_page_does_not():
    async with serving(api_keys={"key-a": "a"}) as (_, client):
        assert (await client.get("/dashboard")).status_code == 200
        for path in ("state", "events", "story/r1"):
            assert (await client.get(f"/dashboard/{path}")).status_code == 401
        answer = await client.get("/dashboard/state", headers=bearer("key-a"))
        assert answer.status_code == 200


@pytest.mark.parametrize(
    ("watchers", "expected"),
    [((), {"a": 403, "b": 403}), (("a",), {"a": 200, "b": 403})],
)
async def test_tenants_do_not_watch_one_another_unless_they_are_named(watchers, expected):
    keys = {"key-a": "a", "key-b": "b"}
    async with serving(api_keys=keys, dashboard_tenants=watchers) as (_, client):
        for tenant, status in expected.items():
            head = bearer(f"key-{tenant}")
            for path in ("state", "story/r1"):
                got = (await client.get(f"/dashboard/{path}", headers=head)).status_code
                assert got == (404 if status == 200 and path != "state" else status)


async def test_it_can_be_turned_off():
    async with serving(dashboard=False) as (gateway, client):
        assert gateway.window is None
        for path in ("", "/state", "/main.js"):
            assert (await client.get(f"/dashboard{path}")).status_code == 404
