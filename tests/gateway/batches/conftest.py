"""Gateways with files and batches, and fake workers behind them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from benchmarks.fake_worker import SPEC, FakeWorker

from fairlead.gateway import Gateway
from fairlead.gateway.batches.config import BatchesConfig
from fairlead.gateway.batches.sender import Sender
from fairlead.gateway.batches.service import BatchService
from fairlead.store.batches import BatchStore
from fairlead.store.database import Database
from tests.gateway.conftest import new_gateway
from tests.patience import PATIENCE_S

CHAT = "/v1/chat/completions"
EMBEDDINGS = "/v1/embeddings"


def line(name: str, **changes: Any) -> str:
    message = {"role": "user", "content": f"hello {name}"}
    body = {"model": SPEC.model, "messages": [message], "max_tokens": 3, **changes}
    return json.dumps({"custom_id": name, "method": "POST", "url": CHAT, "body": body})


@dataclass
class Desk:
    """A gateway, and what a test wants to do with it."""

    gateway: Gateway
    service: BatchService
    now_s: list[float] = field(default_factory=lambda: [1e9])
    key: str | None = None

    def client(self, key: str | None = None) -> httpx.AsyncClient:
        head = {"authorization": f"Bearer {key}"} if key else {}
        return httpx.AsyncClient(
            base_url=self.gateway.url, headers=head, timeout=PATIENCE_S, verify=False
        )

    async def worker(self, pace_s: float | None = 0) -> FakeWorker:
        return await FakeWorker(pace_s=pace_s).join(self.gateway.workers_address)

    async def upload(self, lines: Iterable[str], key: str | None = None) -> httpx.Response:
        data = "\n".join(lines).encode()
        async with self.client(key) as http:
            form = {"file": ("in.jsonl", data)}
            return await http.post("/v1/files", files=form, data={"purpose": "batch"})

    async def submit(self, lines: Iterable[str], window: str = "24h", endpoint: str = CHAT) -> str:
        file = (await self.upload(lines)).json()["id"]
        asked = {"input_file_id": file, "endpoint": endpoint, "completion_window": window}
        async with self.client() as http:
            return str((await http.post("/v1/batches", json=asked)).json()["id"])

    async def batch(self, id: str) -> dict[str, Any]:
        async with self.client() as http:
            return dict((await http.get(f"/v1/batches/{id}")).json())

    async def until(self, id: str, *statuses: str) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_S):
            while (batch := await self.batch(id))["status"] not in statuses:
                await asyncio.sleep(0.05)
        return batch

    async def results(self, id: str | None) -> list[dict[str, Any]]:
        if id is None:
            return []
        async with self.client() as http:
            text = (await http.get(f"/v1/files/{id}/content")).text
        return [json.loads(row) for row in text.splitlines()]


NewDesk = Callable[..., Any]


@pytest.fixture
async def new_desk(tmp_path: Path) -> AsyncIterator[NewDesk]:
    """Starts gateways of one folder and database."""
    started: list[Gateway] = []

    async def start(host: str = "here", api_keys: Any = None, **settings: Any) -> Desk:
        config = BatchesConfig(folder=str(tmp_path), **settings)
        now_s = [1e9]
        made: list[BatchService] = []

        def batches(sender: Sender) -> BatchService:
            store = BatchStore(Database(str(tmp_path / "batches.db")))
            made.append(BatchService(config, store, sender, host, 4096, 5.0, lambda: now_s[0]))
            return made[0]

        gateway = new_gateway(batches=batches, api_keys=api_keys or {})
        await gateway.start()
        started.append(gateway)
        return Desk(gateway, made[0], now_s)

    yield start
    for gateway in started:
        await gateway.stop()


@pytest.fixture
async def desk(new_desk: NewDesk) -> Desk:
    made: Desk = await new_desk()
    return made
