"""A gateway with a real fleet behind it, and fake workers behind that."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from random import Random
from typing import Any

import httpx
import pytest
import uvloop
from benchmarks.fake_worker import SPEC, FakeWorker

from fairlead.fleet import Fleet, Limits
from fairlead.gateway import Gateway, GatewayConfig, ServedModel
from fairlead.model import Objective
from fairlead.policies.registry import build
from fairlead.text.call_format import CallFormat
from tests.patience import PATIENCE_S

TOKEN = "secret"
OBJECTIVES = {
    # Promises that the busiest of machines keeps.
    "interactive": Objective("interactive", ttft_s=60.0, tpot_s=30.0),
    "batch": Objective("batch"),
}


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(config: Any, item: Any) -> Mapping[str, Any]:
    """The loop that serves in production: its transports differ from those of plain asyncio."""
    return {"uvloop": uvloop.new_event_loop}


class ByteTokenizer:
    """A token is a byte. Tools come first, and calls are Hermes'."""

    vocab_size = 256
    takes_tools = True
    call_format: CallFormat | None = CallFormat.HERMES

    def has_token(self, text: str) -> bool:
        return False

    def encode(self, text: str) -> Sequence[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode()

    def encode_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> Sequence[int]:
        lines = [f"tool {json.dumps(tool['function'])}\n" for tool in tools or ()]
        for message in messages:
            lines.append(f"{message['role']}: {message['content']}\n")
            for call in message.get("tool_calls", ()):
                called = call["function"]
                lines.append(f"call {called['name']} {json.dumps(called['arguments'])}\n")
        return list("".join(lines).encode())


MODEL = ServedModel(
    SPEC.model, ByteTokenizer(), max_context=512, pools=("chat",), text_ids=(32, 126)
)


def new_gateway(
    fleet: Any = None,
    door: Any = None,
    batches: Any = None,
    model: ServedModel = MODEL,
    **settings: Any,
) -> Gateway:
    config = GatewayConfig(**{"token": TOKEN, "listen": "127.0.0.1:0"} | settings)
    if fleet is None:
        fleet = Fleet(
            build("routing", "round-robin", {}, Random(0)),
            build("admission", "always", {}, Random(0)),
            Limits(max_queued=4),
            models=[SPEC.model],
        )
    models = {model.name: model}
    return Gateway(config, fleet, models, OBJECTIVES, "interactive", door=door, batches=batches)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    gateway = new_gateway()
    await gateway.start()
    yield gateway
    await gateway.stop()


@pytest.fixture
async def worker(gateway: Gateway) -> FakeWorker:
    """Makes a step as soon as there is something to do."""
    return await FakeWorker(pace_s=0).join(gateway.workers_address)


@pytest.fixture
async def by_hand(gateway: Gateway) -> FakeWorker:
    """Makes a step only when told to."""
    return await FakeWorker().join(gateway.workers_address)


@pytest.fixture
async def http(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """Over a real socket."""
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture
async def asleep() -> AsyncIterator[httpx.AsyncClient]:
    """Into a gateway that was not started: enough for what never reaches a worker."""
    transport = httpx.ASGITransport(new_gateway().app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


@pytest.fixture
async def in_memory(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """Straight into the application, without a port."""
    transport = httpx.ASGITransport(gateway.app, raise_app_exceptions=True)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client
