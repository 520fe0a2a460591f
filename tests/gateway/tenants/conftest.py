"""Gateways whose tenants are in a database, with fake workers behind them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from benchmarks.fake_worker import SPEC, FakeWorker

from fairlead.gateway import Gateway
from fairlead.gateway.tenants.config import TenantsConfig
from fairlead.gateway.tenants.service import TenantService
from fairlead.store.call_record import CallRecord
from fairlead.store.database import Database
from fairlead.store.tenant import Role
from fairlead.store.tenants import Tenants
from fairlead.store.usage import Usage
from tests.gateway.conftest import new_gateway
from tests.patience import PATIENCE_S
from tests.store.conftest import empty_database, postgresql

__all__ = ["postgresql"]

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello there, ship"}]


def body(**changes: Any) -> dict[str, Any]:
    return {"model": SPEC.model, "messages": HELLO, "max_tokens": 3, "seed": 1} | changes


@dataclass
class Service:
    """A gateway with tenants, and what a test wants to do with it."""

    gateway: Gateway
    door: TenantService
    tenants: Tenants
    usage: Usage
    keys: dict[str, str] = field(default_factory=dict)

    def key(self, tenant: str, role: Role = Role.USER, **settings: Any) -> str:
        """A new one; the tenant's settings change with it."""
        self.tenants.put(tenant, settings, 1.0)
        return self.tenants.create_key(tenant, 1.0, role=role)[0]

    def client(self, key: str | None) -> httpx.AsyncClient:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return httpx.AsyncClient(base_url=self.gateway.url, headers=headers, timeout=PATIENCE_S)

    async def worker(self, pace_s: float | None = 0) -> FakeWorker:
        return await FakeWorker(pace_s=pace_s).join(self.gateway.workers_address)

    async def calls(self, tenant: str | None = None) -> list[CallRecord]:
        """The ledger, with everything that has ended."""
        await self.door.sync()
        return self.usage.calls(tenant)


@pytest.fixture
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An SQLite file, where a test does not ask for more."""
    return empty_database(request, tmp_path)


NewService = Callable[..., Any]


@pytest.fixture
async def new_service(where: str, tmp_path: Path) -> AsyncIterator[NewService]:
    """Starts gateways of one database."""
    started: list[Gateway] = []

    async def start(**settings: Any) -> Service:
        settings = {"journal": str(tmp_path / "calls"), "sync_s": 30.0, **settings}
        database = Database(where)
        door = TenantService(database, TenantsConfig(database=where, **settings))
        gateway = new_gateway(door=door)
        await gateway.start()
        started.append(gateway)
        return Service(gateway, door, Tenants(database), Usage(database))

    yield start
    for gateway in started:
        await gateway.stop()


@pytest.fixture
async def service(new_service: NewService) -> Service:
    made: Service = await new_service()
    return made
