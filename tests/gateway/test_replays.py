"""The dashboard's replays: what may be asked for, one at a time, and what goes wrong."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest

from fairlead.gateway import Gateway, replays
from fairlead.gateway.replays import Replays
from tests.gateway.conftest import new_gateway

ECHO = "import json, sys; print(json.dumps({'words': sys.argv[1:]}))"


class Flushed:
    n = 0

    def __call__(self) -> None:
        self.n += 1


def made(program: str, flush: Flushed) -> Replays:
    def command(last_s: float, changes: Sequence[str]) -> list[str]:
        return [sys.executable, "-c", program, f"{last_s:g}", *changes]

    pools = {"chat": 2, "long": 1}
    return Replays(command, lambda words: " ".join(words[2:]), flush, ["a", "b"], pools)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    gateway = new_gateway()
    await gateway.start()
    yield gateway
    await gateway.stop()


def use(gateway: Gateway, program: str) -> Flushed:
    assert gateway.window is not None
    flush = Flushed()
    gateway.window.replays = made(program, flush)
    return flush


async def ask(http: httpx.AsyncClient, body: Any, **head: str) -> tuple[int, Any]:
    content = body if isinstance(body, str) else json.dumps(body)
    head = {"content-type": "application/json", **head}
    answer = await http.post("/dashboard/replay", content=content, headers=head)
    return answer.status_code, answer.json()


async def test_what_is_asked_for_becomes_a_command(http, gateway):
    flush = use(gateway, ECHO)
    state = (await http.get("/dashboard/state")).json()
    assert state["about"]["replay"] == {"routing": ["a", "b"], "pools": {"chat": 2, "long": 1}}
    status, found = await ask(http, {"last_s": 90, "routing": "b", "instances": {"long": 3}})
    words = ["90", "policy.routing=b", "pool.1.instances=3"]
    assert (status, found["summary"]) == (200, {"words": words})
    assert found["command"].endswith(" ".join(words))
    assert flush.n == 1
    assert (await ask(http, {}))[1]["summary"] == {"words": ["60"]}


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "nonsense",
        {"last_s": 0},
        {"last_s": 1e9},
        {"last_s": "60"},
        {"routing": "c"},
        {"routing": "a --set x=y"},
        {"instances": {"other": 1}},
        {"instances": {"chat": 0}},
        {"instances": {"chat": 100000}},
        {"fleet": "/etc/passwd"},
    ],
)
async def test_what_makes_no_sense_is_refused(http, gateway, body):
    use(gateway, ECHO)
    status, found = await ask(http, body)
    assert status == 400
    assert found["error"]["message"]


async def test_a_form_of_another_site_cannot_ask(http, gateway):
    use(gateway, ECHO)
    assert (await ask(http, {}, **{"content-type": "text/plain"}))[0] == 415


async def test_one_runs_at_a_time(http, gateway):
    use(gateway, "import time; time.sleep(1); print('{}')")
    first = asyncio.create_task(ask(http, {}))
    await asyncio.sleep(0.3)
    assert (await ask(http, {}))[0] == 429
    assert (await first)[0] == 200
    assert (await ask(http, {}))[0] == 200


async def test_one_that_fails_says_why_and_one_that_takes_too_long_is_ended(
    http, gateway, monkeypatch
):
    use(gateway, "import sys; sys.exit('error: no request in the window')")
    status, found = await ask(http, {})
    assert (status, found["error"]["code"]) == (422, "failed")
    assert "no request in the window" in found["error"]["message"]
    monkeypatch.setattr(replays, "TIMEOUT_S", 0.2)
    use(gateway, "import time; time.sleep(60)")
    assert (await ask(http, {}))[0] == 504


async def test_without_a_log_there_is_nothing_to_replay(http, gateway):
    assert "replay" not in (await http.get("/dashboard/state")).json()["about"]
    assert (await ask(http, {}))[0] == 405
