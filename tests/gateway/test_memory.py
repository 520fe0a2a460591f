"""A gateway's objects die by reference count: the garbage collector looks rarely, and prompts are
long."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from benchmarks.fake_worker import SPEC, FakeWorker

from fairlead.gateway import Gateway
from fairlead.gateway.batches.sender import Sender
from fairlead.gateway.direct import DirectExchange
from fairlead.gateway.streams import Call
from fairlead.gateway.tenants.caller import Caller
from tests.gateway.conftest import MODEL

MESSAGES = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("chat/completions", MESSAGES),
    ("chat/completions", MESSAGES | {"stream": True}),
    ("chat/completions", MESSAGES | {"stream": True, "n": 2}),
    ("chat/completions", MESSAGES | {"stream": True, "logprobs": True}),
    ("chat/completions", MESSAGES | {"stream": True, "tools": [TOOL]}),
    ("chat/completions", MESSAGES | {"tools": [TOOL]}),
    ("completions", {"prompt": "hello", "max_tokens": 5}),
    ("messages", MESSAGES),
    ("messages", MESSAGES | {"stream": True}),
    ("responses", {"input": "hello", "max_output_tokens": 5}),
    ("responses", {"input": "hello", "max_output_tokens": 5, "stream": True}),
]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[weakref.ref[Any]]]:
    """Every call that was begun, with what it holds; nobody collects garbage meanwhile."""
    found: list[weakref.ref[Any]] = []
    begin = Call.begin

    def watched(self: Call) -> None:
        held = [self, self.exchange, *([] if self.chunks is None else [self.chunks])]
        if isinstance(self.exchange, DirectExchange):
            held += [self.exchange._protocol, self.exchange._cycle]
        found.extend(weakref.ref(one) for one in held if hasattr(type(one), "__weakref__"))
        begin(self)

    monkeypatch.setattr(Call, "begin", watched)
    gc.disable()
    yield found
    gc.enable()


async def until_dead(made: list[weakref.ref[Any]]) -> list[Any]:
    """Those that still live after a while in which they could go."""
    for _ in range(200):
        if not any(one() for one in made):
            break
        await asyncio.sleep(0.005)
    return [one() for one in made if one() is not None]


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def ask(gateway: Gateway, path: str, body: dict[str, Any]) -> Connection:
    host, _, port = gateway.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    data = json.dumps({"model": SPEC.model, **body}).encode()
    head = f"POST /v1/{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
    writer.write(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
    return reader, writer


@pytest.mark.parametrize(("path", "body"), CALLS)
async def test_an_answered_call_is_gone_with_its_connection(
    gateway: Gateway, worker: FakeWorker, made: list[Any], path: str, body: dict[str, Any]
) -> None:
    reader, writer = await ask(gateway, path, body)
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    writer.close()
    assert len(made) >= 4
    assert await until_dead(made) == []


async def test_a_rejected_call_is_gone_too(gateway: Gateway, made: list[Any]) -> None:
    """Nobody serves it: there is no worker, and the gateway drains."""
    reader, writer = await ask(gateway, "chat/completions", MESSAGES | {"stream": True})
    while not made:
        await asyncio.sleep(0.001)
    await gateway.drain(0.0)
    assert b" 503 " in (await reader.read()).splitlines()[0]
    writer.close()
    assert await until_dead(made) == []


async def test_a_stream_that_its_client_leaves_is_gone(
    gateway: Gateway, by_hand: FakeWorker, made: list[Any]
) -> None:
    reader, writer = await ask(gateway, "chat/completions", MESSAGES | {"stream": True})
    await by_hand.until(lambda: by_hand.submits)
    by_hand.step()
    await reader.readuntil(b"data: ")
    writer.transport.abort()
    await by_hand.until(lambda: by_hand.aborted)
    assert await until_dead(made) == []


async def test_a_line_of_a_batch_is_gone_once_it_is_answered(
    gateway: Gateway, worker: FakeWorker, made: list[Any]
) -> None:
    sender = gateway._sender(gateway.driver._fleet, gateway.app._intake, {MODEL.name: MODEL}, {})
    answers: list[int] = []
    body = json.dumps({"model": SPEC.model, **MESSAGES}).encode()
    await send(sender, body, answers)
    while not answers:
        await asyncio.sleep(0.001)
    assert answers == [200]
    assert await until_dead(made) == []


async def send(sender: Sender, body: bytes, answers: list[int]) -> None:
    path = "/v1/chat/completions"
    await sender.send(path, body, Caller(), "b-1", lambda a: answers.append(a.status))
