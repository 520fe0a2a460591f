"""`fairlead top` against a gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from benchmarks.fake_worker import FakeWorker

from fairlead.cli.main import main
from fairlead.client.watch import NoLinkError, Watched
from fairlead.gateway import Gateway
from tests.gateway.conftest import new_gateway


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    gateway = new_gateway(api_keys={"key-a": "a"}, tick_s=0.05)
    await gateway.start()
    await FakeWorker(pace_s=0).join(gateway.workers_address)
    yield gateway
    await gateway.stop()


async def run(*words: str) -> int:
    return await asyncio.to_thread(main, ["top", *words])


async def test_without_a_terminal_one_table_is_printed(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run("--url", gateway.url, "--api-key", "key-a") == 0
    assert "1 instances" in (printed := capsys.readouterr().out)
    assert "fake" in printed


async def test_json_is_the_picture_itself(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run("--url", gateway.url + "/", "--api-key", "key-a", "--json") == 0
    assert "fake" in json.loads(capsys.readouterr().out)["instances"]


async def test_what_goes_wrong_is_said_in_a_line(
    gateway: Gateway, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for url, said in (
        (gateway.url, "no valid API key"),
        ("http://127.0.0.1:1", "start a fleet with"),
        (f"{gateway.url}/v1", "has no dashboard"),
        ("nonsense", "is no address"),
    ):
        assert await run("--url", url) == 2
        assert said in capsys.readouterr().err


async def test_the_stream_is_followed_until_it_ends(gateway: Gateway) -> None:
    pictures = Watched(gateway.url, "key-a").pictures()
    first = await asyncio.to_thread(next, pictures)
    second = await asyncio.to_thread(next, pictures)
    assert second["now_s"] > first["now_s"]
    assert "fake" in second["instances"]
    rest = asyncio.to_thread(list, pictures)
    _, ended = await asyncio.gather(gateway.stop(), rest)
    assert all(state["instances"] for state in ended[:1])


async def test_a_gateway_that_is_gone_is_no_link(gateway: Gateway) -> None:
    await gateway.stop()
    with pytest.raises(NoLinkError):
        await asyncio.to_thread(Watched(gateway.url, "key-a").once)
