"""What a hostile client or worker tries: it gets the right status, and others notice nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from random import Random

import httpx
import pytest
from benchmarks.fake_worker import SPEC, FakeWorker

from fairlead.fleet import Fleet, Limits
from fairlead.gateway import Gateway
from fairlead.model import InstanceId
from fairlead.policies.registry import build
from fairlead.worker import wire
from tests.gateway.conftest import new_gateway
from tests.gateway.test_bad_input import CHAT, chat
from tests.patience import PATIENCE_S

NEIGHBOUR = {"authorization": "Bearer good-key"}
MEGABYTE = b" " * 2**20


def open_fleet():
    return Fleet(
        build("routing", "round-robin", {}, Random(0)),
        build("admission", "always", {}, Random(0)),
        Limits(max_queued=4),
        models=[SPEC.model],
    )


@contextlib.asynccontextmanager
async def serving(**settings) -> AsyncIterator[Gateway]:
    """A gateway with keys, and a worker that answers."""
    gateway = new_gateway(api_keys={"good-key": "neighbour"}, **settings)
    await gateway.start()
    worker = await FakeWorker(pace_s=0).join(gateway.workers_address)
    try:
        yield gateway
    finally:
        await gateway.stop()
        worker.transport.abort()


async def dial(gateway):
    host, _, port = gateway.address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def neighbour_is_served(gateway):
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
        answer = await client.post(CHAT, content=chat(), headers=NEIGHBOUR)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] == 2


async def status_of(gateway, raw: bytes) -> int:
    """What a connection that says just this hears, once it is hung up on or answered."""
    reader, writer = await dial(gateway)
    writer.write(raw)
    try:
        async with asyncio.timeout(PATIENCE_S):
            line = await reader.readline()
    finally:
        writer.close()
    return int(line.split()[1])


def head(*lines: str, length: int = 0) -> bytes:
    first = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n"
    return (first + "".join(f"{line}\r\n" for line in lines) + "\r\n").encode("latin-1")


# ---------------------------------------------------------------- who is asking


@pytest.mark.parametrize(
    "key",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer good-ke",
        "Bearer good-key2",
        "Bearer GOOD-KEY",
        "Basic good-key",
        "Bearer good-key, Bearer good-key",
        "Bearer g\u00f6\u00f6d-key",
        "Bearer " + "x" * 50_000,
    ],
)
async def test_a_forged_key_is_a_401(key):
    async with serving() as gateway:
        raw = head(f"authorization: {key}", length=len(chat())) + chat()
        assert await status_of(gateway, raw) == 401
        await neighbour_is_served(gateway)


async def test_a_thousand_forged_keys_leave_nothing_behind():
    async with serving() as gateway:
        async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
            for _ in range(200):
                forged = {"authorization": f"Bearer {secrets.token_hex(16)}"}
                assert (await client.post(CHAT, content=chat(), headers=forged)).status_code == 401
        assert not gateway.app.calls
        assert not gateway.driver.outlets
        await neighbour_is_served(gateway)


# ---------------------------------------------------------------- slow


async def test_headers_in_drops_are_a_408_after_a_time_however_steadily_they_come():
    async with serving(head_timeout_s=0.3) as gateway:
        reader, writer = await dial(gateway)
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\n")

        async def drip():
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(b"x: y\r\n")
                    await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        await neighbour_is_served(gateway)
        async with asyncio.timeout(PATIENCE_S):
            assert (await reader.readline()).startswith(b"HTTP/1.1 408")
        dripping.cancel()
        writer.close()


async def test_empty_lines_do_not_keep_a_connection_open():
    """The parser takes them before a request and says nothing."""
    async with serving(head_timeout_s=0.3) as gateway:
        reader, writer = await dial(gateway)

        async def drip():
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(b"\r\n")
                    await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        async with asyncio.timeout(PATIENCE_S):
            assert (await reader.readline()).startswith(b"HTTP/1.1 408")
        dripping.cancel()
        writer.close()


async def test_a_body_in_drops_is_a_408_and_one_that_goes_on_after_its_answer_is_cut_off():
    async with serving(body_timeout_s=0.3, head_timeout_s=0.3) as gateway:
        reader, writer = await dial(gateway)
        writer.write(head("authorization: Bearer good-key", length=10_000))

        async def drip():
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(b" ")
                    await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        await neighbour_is_served(gateway)
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(PATIENCE_S):
                assert (await reader.readline()).startswith(b"HTTP/1.1 408")
                await reader.read()
        dripping.cancel()
        writer.close()


async def test_a_request_that_takes_its_time_between_others_is_not_cut_off():
    """The time for headers is not that between two requests, nor that of an answer."""
    async with serving(head_timeout_s=0.2) as gateway:
        reader, writer = await dial(gateway)
        for _ in range(2):
            writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            await reader.readuntil(b'"ok"}')
            writer.write(b"GET /health HT")
            await asyncio.sleep(0.05)
            writer.write(b"TP/1.1\r\nhost: x\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            await reader.readuntil(b'"ok"}')
            await asyncio.sleep(0.3)
            if reader.at_eof():
                pytest.fail("hung up on between two requests")
        writer.close()


async def test_a_slow_answer_outlives_the_time_for_headers():
    gateway = new_gateway(head_timeout_s=0.2)
    await gateway.start()
    worker = await FakeWorker(pace_s=0.2).join(gateway.workers_address)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
        assert (await client.post(CHAT, content=chat(max_tokens=4))).status_code == 200
    await gateway.stop()
    worker.transport.abort()


# ---------------------------------------------------------------- large and deep


async def test_200_megabytes_of_json_are_a_413_and_are_not_kept():
    async with serving() as gateway:

        async def flood():
            yield b'{"model": "'
            for _ in range(200):
                yield MEGABYTE

        async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
            answer, _ = await asyncio.gather(
                client.post(CHAT, content=flood(), headers=NEIGHBOUR), neighbour_is_served(gateway)
            )
        assert answer.status_code == 413
        await neighbour_is_served(gateway)


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages":' + b"[" * 1_000_000,
        b'{"model":"fake-model","x":' + b'{"a":' * 200_000 + b"1" + b"}" * 200_001,
        b'{"model":"fake-model","fairlead":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model":"fake-model","metadata":1e999999,"messages":[]}',
        b'{"model":"fake-model","seed":' + b"9" * 100_000 + b',"messages":[]}',
    ],
)
async def test_deep_and_absurd_json_is_a_400(body):
    async with serving() as gateway:
        raw = head("authorization: Bearer good-key", length=len(body)) + body
        assert await status_of(gateway, raw) == 400
        await neighbour_is_served(gateway)


# ---------------------------------------------------------------- names and headers

TRICKS = [
    "\u202egnp.exe",
    "a\u0000b",
    "\ufeffx",
    "a\r\nset-cookie: x=1",
    "\U0001f600" * 100,
    "../../etc/passwd",
    'x"} 1\nfairlead_fake_metric 7\n#',
    "\u0130\u0131\u017f",
    "A\u0300\u0301\u0302" * 50,
]


@pytest.mark.parametrize("name", TRICKS)
async def test_unicode_tricks_in_names_are_a_name_like_others_or_a_4xx(name):
    async with serving() as gateway:
        async with httpx.AsyncClient(
            base_url=gateway.url, timeout=PATIENCE_S, headers=NEIGHBOUR
        ) as http:
            known = await http.post(CHAT, content=chat(user=name, prompt_cache_key=name))
            assert known.status_code == 200
            assert "set-cookie" not in known.headers
            program = await http.post(CHAT, content=chat(fairlead={"program": name}))
            assert program.status_code == 200
            model = await http.post(CHAT, content=chat(model=name))
            assert model.status_code == 404
            assert json.loads(model.content)["error"]["code"] == "model_not_found"
            tier = await http.post(CHAT, content=chat(service_tier=name))
            assert tier.status_code == 400
            shown = (await http.get("/metrics")).text
        assert "fairlead_fake_metric" not in [line.split(" ")[0] for line in shown.split("\n")]
        assert name not in shown
        await neighbour_is_served(gateway)


@pytest.mark.parametrize("text", ['"\\ud800"', '"\\udfff\\ud800"'])
async def test_half_a_surrogate_is_no_500(text):
    async with serving() as gateway:
        for field in ("user", "model", "service_tier", "stop"):
            body = chat()[:-1] + f', "{field}": {text}}}'.encode()
            raw = head("authorization: Bearer good-key", length=len(body)) + body
            assert await status_of(gateway, raw) < 500
        body = chat().replace(b'"hello"', text.encode())
        raw = head("authorization: Bearer good-key", length=len(body)) + body
        assert await status_of(gateway, raw) < 500
        await neighbour_is_served(gateway)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /health HTTP/1.1\r\nx: a\r\n b: c\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nx: a\rb: c\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nx: a\0b\r\n\r\n", 400),
        (b"GET /health\r\nx HTTP/1.1\r\n\r\n", 400),
        (b"POST /x HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello", 400),
        (
            b"POST /x HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"POST /x HTTP/1.1\r\ncontent-length: -5\r\n\r\n", 400),
        (b"POST /x HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
    ],
)
async def test_smuggled_and_injected_headers_are_a_400(raw, status):
    async with serving() as gateway:
        assert await status_of(gateway, raw) == status
        await neighbour_is_served(gateway)


async def test_line_breaks_in_an_address_do_not_reach_headers_or_logs(caplog):
    caplog.set_level(logging.DEBUG)
    async with serving() as gateway:
        reader, writer = await dial(gateway)
        writer.write(
            b"GET /v1/%0d%0aset-cookie:%20x=1%0aforged-line HTTP/1.1\r\n"
            b"authorization: Bearer good-key\r\n\r\n"
        )
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 404")
        assert b"set-cookie" not in answer
        writer.close()
    assert not [line for line in caplog.text.split("\n") if line.startswith("forged-line")]


# ---------------------------------------------------------------- many


async def test_many_tiny_streams_are_rejected_beyond_the_queue_and_neighbours_go_on():
    """As a client with one socket each would; four may queue, all others are told so at once."""
    gateway = new_gateway(fleet=open_fleet())
    await gateway.start()
    tiny = chat(max_tokens=1, stream=True)
    raw = head(length=len(tiny)) + tiny

    async def one():
        reader, writer = await dial(gateway)
        writer.write(raw)
        status = (await reader.readline()).split()[1]
        writer.close()
        return int(status)

    flood = [asyncio.create_task(one()) for _ in range(300)]
    while gateway.driver._fleet.n_queued < 4 or sum(task.done() for task in flood) < 296:
        await asyncio.sleep(0.01)
    worker = await FakeWorker(pace_s=0).join(gateway.workers_address)
    statuses = await asyncio.gather(*flood)
    assert (statuses.count(200), statuses.count(429)) == (4, 296)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
        assert (await client.post(CHAT, content=chat())).status_code == 200
    assert not gateway.driver.outlets
    await gateway.stop()
    worker.transport.abort()


async def test_connections_beyond_the_limit_hear_503_and_the_others_go_on():
    async with serving(max_connections=3) as gateway:
        async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as neighbour:
            assert (await neighbour.get("/health")).status_code == 200
            idle = [await dial(gateway) for _ in range(2)]
            assert await status_of(gateway, b"GET /health HTTP/1.1\r\n\r\n") == 503
            answer = await neighbour.post(CHAT, content=chat(), headers=NEIGHBOUR)
            assert answer.status_code == 200
            for _, writer in idle:
                writer.close()
            await asyncio.sleep(0.05)
        await neighbour_is_served(gateway)


# ---------------------------------------------------------------- workers


async def test_a_worker_that_claims_anothers_name_gets_one_of_its_own_and_none_of_its_requests():
    async with serving() as gateway:
        honest = gateway.hub.workers[SPEC.id]
        impostor = FakeWorker(replace(SPEC, incarnation="another"))
        await impostor.join(gateway.workers_address)
        assert gateway.hub.workers[SPEC.id] is honest
        assert set(gateway.hub.workers) == {SPEC.id, InstanceId(f"{SPEC.id}-2")}


async def test_a_worker_cannot_speak_for_requests_of_another():
    gateway = new_gateway()
    await gateway.start()
    honest = await FakeWorker().join(gateway.workers_address)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
        asked = asyncio.create_task(client.post(CHAT, content=chat()))
        while not gateway.driver.outlets:
            await asyncio.sleep(0.005)
        (request,) = gateway.driver.outlets
        thief = await FakeWorker().join(gateway.workers_address)
        row = wire.Row(request, 1, 0, [1, 2], "stolen")
        end = wire.End(request, 1, "stop", 0)
        thief.transport.write(wire.pack(wire.Frame([row], [end])))
        await asyncio.sleep(0.05)
        assert not asked.done()
        while not asked.done():
            honest.step()
            await asyncio.sleep(0.01)
        assert "stolen" not in (await asked).text
    await gateway.stop()


@pytest.mark.parametrize("token", ["", "secre", "secret2", "SECRET", "s\u00e9cret", "x" * 10_000])
async def test_a_worker_with_a_wrong_token_is_sent_away(token):
    async with serving() as gateway:
        reader, writer = await asyncio.open_connection(*gateway.workers_address.rsplit(":", 1))
        writer.write(wire.pack(wire.Hello(wire.VERSION, token, SPEC)))
        said = (await reader.read())[4:]
        assert "wrong token" in wire.unpack_from_gateway(said).why
        writer.close()
        assert len(gateway.hub.workers) == 1
        await neighbour_is_served(gateway)


async def test_a_stranger_on_the_workers_port_may_not_fill_memory():
    async with serving() as gateway:
        reader, writer = await asyncio.open_connection(*gateway.workers_address.rsplit(":", 1))
        writer.write((2**31).to_bytes(4, "big") + MEGABYTE)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        assert not gateway.hub.strangers
        await neighbour_is_served(gateway)


# ---------------------------------------------------------------- what is written down


async def test_no_text_of_prompts_or_answers_is_in_logs_metrics_or_the_dashboard(caplog):
    caplog.set_level(logging.DEBUG)
    secret = "xyzzy-my-diagnosis"
    gateway = new_gateway()
    await gateway.start()
    worker = await FakeWorker(pace_s=0).join(gateway.workers_address)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
        for extra in ({}, {"service_tier": secret}, {"n": 0}, {"model": secret}):
            body = chat(messages=[{"role": "user", "content": secret}], user=secret, **extra)
            await client.post(CHAT, content=body)
        said = (await client.post(CHAT, content=chat())).json()["choices"][0]["message"]["content"]
        shown = (await client.get("/metrics")).text
        shown += (await client.get("/dashboard/state")).text
    assert said.strip()
    assert secret not in shown
    assert not [r for r in caplog.records if r.name.startswith("fairlead") and secret in r.message]
    await gateway.stop()
    worker.transport.abort()
