"""A worker in front of a fake server, seen from the gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fairlead.latency.profile_file import list_profiles
from fairlead.worker.opaque.build import build_opaque
from fairlead.worker.opaque.worker import OpaqueWorker
from fairlead.worker.settings import WorkerSettings
from fairlead.worker.wire import Hello
from tests.worker.fakes import FakeGateway, WorkerLine, a_gateway, running
from tests.worker.opaque.fake_server import FakeServer, serving

PROFILE = list_profiles()[0]
"""So that nothing is measured where a test is not about that."""


def an_opaque_worker(
    gateway: FakeGateway, server: FakeServer, said: list[str], **settings: Any
) -> OpaqueWorker:
    values: dict[str, Any] = {
        "join": str(gateway.address),
        "model": "fairlead-nano",
        "engine": "openai",
        "hardware": PROFILE,
        "url": server.url,
        "served_as": server.name,
        "max_context": 512 if server.max_context is None else None,
    }
    return build_opaque(WorkerSettings(**(values | settings)), "secret", said.append)


@asynccontextmanager
async def in_front_of(
    server: FakeServer, said: list[str] | None = None, **settings: Any
) -> AsyncIterator[tuple[WorkerLine, Hello]]:
    """The gateway's line to a worker that was welcomed, and how it introduced itself."""
    async with serving(server), a_gateway() as gateway:
        worker = an_opaque_worker(gateway, server, [] if said is None else said, **settings)
        async with running(worker):
            line = await gateway.line()
            hello = await line.welcome(heartbeat_s=0.2)
            yield line, hello
            line.hang_up()
