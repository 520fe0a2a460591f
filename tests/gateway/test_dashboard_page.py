"""The dashboard in a browser: what is shown, how it is reached, and that it stays at home."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest
from benchmarks.fake_worker import SPEC, FakeWorker

from fairlead.gateway import Gateway
from fairlead.model import InstanceId, Role
from tests import chromium
from tests.gateway.conftest import new_gateway
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.skipif(chromium.PATH is None, reason="no Chromium on this machine")
BODY = {"model": SPEC.model, "prompt": "hello", "max_tokens": 3, "seed": 1}


@asynccontextmanager
async def fleet_of(n: int, **settings: Any) -> AsyncIterator[Gateway]:
    gateway = new_gateway(**{"tick_s": 0.1, **settings})
    await gateway.start()
    try:
        for i in range(n):
            role = Role.PREFILL if i == 1 else Role.MIXED
            spec = replace(SPEC, id=InstanceId(f"i{i}"), incarnation=str(i), role=role)
            await FakeWorker(spec, pace_s=0).join(gateway.workers_address)
        yield gateway
    finally:
        await gateway.stop()


async def ask(gateway: Gateway, n: int, **head: str) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S, headers=head) as client:
        for _ in range(n):
            answer = await client.post("/v1/completions", json=BODY)
            assert answer.status_code == 200, answer.text


def cells(n: int) -> str:
    return f"document.querySelectorAll('#map .cell').length === {n}"


async def test_a_small_fleet_is_shown_a_request_clicked_and_its_story_read():
    async with fleet_of(3) as gateway, chromium.page() as tab:
        await ask(gateway, 4)
        await tab.go(gateway.url + "/dashboard")
        await tab.until(cells(3))
        await tab.until("document.querySelectorAll('#requests tbody tr').length === 4")
        await tab.until("document.querySelector('#classes').textContent.includes('interactive')")
        await tab.value("document.querySelector('#requests tbody button').focus()")
        await tab.value("document.activeElement.click()")
        await tab.until("document.querySelector('#details .verdict')")
        told = await tab.value("document.querySelector('#details').textContent")
        assert "first token from" in told
        assert "objective met" in told
        await tab.key("Escape")
        await tab.until("!document.querySelector('#details').open")
        # Focus is back where it was.
        assert await tab.value("document.activeElement.closest('#requests') !== null")
        await tab.value("document.querySelector('#map .cell').click()")
        await tab.until("document.querySelector('#details .facts')")
        assert tab.errors == []
        assert all(url.startswith((gateway.url, "data:")) for url in tab.requested)


async def test_a_keyboard_and_a_screen_reader_reach_everything():
    async with fleet_of(3) as gateway, chromium.page() as tab:
        await tab.go(gateway.url + "/dashboard")
        await tab.until("document.querySelectorAll('#map .cell[data-health=ok]').length === 3")
        names = await tab.names()
        assert ("button", "i0: well, KV 25 %, batch 0 of 256, 0 waiting") in names
        assert any(n.startswith("i1, prefill only: well") for role, n in names if role == "button")
        for heading in ("Instances", "Objectives", "Requests", "Hand-offs under way"):
            assert ("heading", heading) in names
        unnamed = [role for role, name in names if role in ("button", "textbox") and not name]
        assert unnamed == []
        # One cell can be tabbed to; arrows go on from there, Enter opens.
        assert (
            await tab.value("document.querySelectorAll('#map .cell[tabindex=\"0\"]').length") == 1
        )
        await tab.value("document.querySelector('#map .cell[tabindex=\"0\"]').focus()")
        await tab.key("ArrowRight")
        assert await tab.value("document.activeElement.dataset.instance") == "i1"
        await tab.key("Enter", "\r")
        await tab.until("document.querySelector('#details').open")
        assert "i1" in await tab.value("document.querySelector('#details-title').textContent")


async def test_five_hundred_instances_fit_on_a_wide_and_on_a_narrow_screen():
    async with fleet_of(500) as gateway, chromium.page() as tab:
        await tab.go(gateway.url + "/dashboard")
        await tab.until(cells(500))
        root = "document.documentElement"
        for width in (1200, 400):
            await tab.resize(width, 900)
            await tab.until(f"{root}.clientWidth <= {width}")
            assert await tab.value(f"{root}.scrollWidth - {root}.clientWidth") <= 0
        await tab.value("document.querySelector('[data-view=table]').click()")
        await tab.until("document.querySelectorAll('#instance-table tbody tr').length === 500")
        assert tab.errors == []


async def test_what_goes_is_taken_off_the_map_and_announced():
    async with fleet_of(2) as gateway, chromium.page() as tab:
        spec = replace(SPEC, id=InstanceId("short-lived"), incarnation="x")
        worker = await FakeWorker(spec, pace_s=0).join(gateway.workers_address)
        await tab.go(gateway.url + "/dashboard")
        await tab.until(cells(3))
        worker.leave()
        await tab.until(cells(2))
        announced = await tab.value("document.querySelector('#announce').textContent")
        assert announced == "gone: short-lived"


async def test_light_and_dark_follow_the_system_and_the_button():
    back = "getComputedStyle(document.body).backgroundColor"
    async with fleet_of(1) as gateway, chromium.page() as tab:
        await tab.go(gateway.url + "/dashboard", dark=True)
        await tab.until(cells(1))
        dark = await tab.value(back)
        await tab.value("document.querySelector('#theme').click()")
        light = await tab.value(back)
        assert light != dark
        await tab.go(gateway.url + "/dashboard", dark=True)
        await tab.until(cells(1))
        assert await tab.value(back) == light


async def test_a_key_is_asked_for_and_markup_in_names_is_only_text():
    keys = {"key-a": "<img src=x onerror=alert(1)>"}
    async with fleet_of(1, api_keys=keys) as gateway, chromium.page() as tab:
        await ask(gateway, 1, Authorization="Bearer key-a")
        await tab.go(gateway.url + "/dashboard")
        await tab.until("document.querySelector('#ask-key').open")
        await tab.value("document.querySelector('#key').value = 'wrong'")
        await tab.value("document.querySelector('#ask-key button').click()")
        await tab.until("document.querySelector('#ask-key').open")
        await tab.value("document.querySelector('#key').value = 'key-a'")
        await tab.value("document.querySelector('#ask-key button').click()")
        await tab.until("document.querySelector('#tenants tbody tr')")
        tenants = await tab.value("document.querySelector('#tenants').textContent")
        assert "<img src=x onerror=alert(1)>" in tenants
        assert await tab.value("document.querySelectorAll('main img').length") == 0


async def test_a_gateway_that_comes_back_is_watched_again():
    async with chromium.page() as tab:
        async with fleet_of(1) as gateway:
            await tab.go(gateway.url + "/dashboard")
            await tab.until("document.querySelector('#link').dataset.link === 'live'")
            address = gateway.address
        await tab.until("document.querySelector('#link').dataset.link === 'lost'")
        async with fleet_of(2, listen=address):
            await tab.until("document.querySelector('#link').dataset.link === 'live'")
            await tab.until(cells(2))
