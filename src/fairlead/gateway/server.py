"""One HTTP port: uvicorn with our connections, started and stopped by its owner."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import uvicorn

from fairlead.gateway.config import GatewayConfig
from fairlead.gateway.direct import DirectProtocol


class HttpServer:
    """Serves an ASGI application on a socket that already listens."""

    def __init__(self, app: Any, config: GatewayConfig, tls: ssl.SSLContext | None) -> None:
        self._server = _Server(_uvicorn_config(app, config, tls))
        self._serving: asyncio.Task[None] | None = None

    async def start(self, listener: socket.socket) -> None:
        """Returns when clients are served."""
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        while not self._server.started and not self._serving.done():
            await asyncio.sleep(0.001)

    async def stop(self) -> None:
        """Ends when the last reply has, or after a few seconds."""
        if self._serving is not None:
            self._server.should_exit = True
            await asyncio.wait([self._serving])  # Not cancelled where we are: it must end well.


class _Server(uvicorn.Server):
    """uvicorn, which leaves signals to whoever started the gateway."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _uvicorn_config(app: Any, config: GatewayConfig, tls: ssl.SSLContext | None) -> uvicorn.Config:
    limits = {
        "max_unsent_bytes": config.max_stream_buffer_bytes,
        "max_connections": config.max_connections,
        "head_timeout_s": config.head_timeout_s,
    }
    uvicorns = uvicorn.Config(
        app,
        http=type("GatewayProtocol", (DirectProtocol,), limits),
        interface="asgi3",  # Not to be guessed: a bound method would be taken for the older one.
        ws="none",
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=math.ceil(config.keep_alive_s),
        timeout_graceful_shutdown=5,
    )
    uvicorns.load()
    uvicorns.ssl = tls
    return uvicorns
