"""Replies written straight to the server's transport.

uvicorn parses requests and keeps connections; from the first byte of the reply on we write to the
transport ourselves, because an awaited `send` for every token costs more than the token's whole
budget. This file is the only one that knows the insides of uvicorn.
"""

from __future__ import annotations

import asyncio
import http
from collections.abc import Sequence
from typing import Any

import msgspec
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from fairlead.gateway.exchange import Exchange, Headers
from fairlead.model import CancelWhy

EXTENSION = "fairlead.direct"
"""Where the application finds the exchange in its ASGI scope."""
MAX_HEAD_BYTES = 64 * 1024
"""Of a request's address and headers together."""

STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in http.HTTPStatus}


class DirectProtocol(HttpToolsProtocol):
    """uvicorn's connection, which lends its transport to the exchange under way."""

    max_unsent_bytes = 1024 * 1024
    """Of one reply; a subclass made for one gateway sets its own."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.under_way: DirectExchange | None = None
        self._open_head_bytes: int | None = None
        """Received of a request whose headers are not complete; None between two heads."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        # One that never asks anything is idle from the start.
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._open_head_bytes is not None:
            self._open_head_bytes += len(data)
            if self._open_head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response(
                    f"more than {MAX_HEAD_BYTES} bytes of address and headers; send fewer"
                )

    def on_message_begin(self) -> None:
        self._open_head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._open_head_bytes = None
        super().on_headers_complete()
        # The task was made but has not run yet: it will find this.
        exchange = DirectExchange(self, self.cycle)
        self.scope["extensions"] = {EXTENSION: exchange}  # type: ignore[dict-item]

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.under_way is not None:
            self.under_way.lost(CancelWhy.CLIENT_LEFT)

    def send_400_response(self, msg: str) -> None:
        """What cannot be parsed as HTTP is answered in OpenAI's error shape, too."""
        error = {"message": msg, "type": "invalid_request_error", "param": None, "code": None}
        body = msgspec.json.encode({"error": error})
        self.transport.write(
            STATUS_LINES[400] + b"content-type: application/json\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )
        self.transport.close()


class DirectExchange(Exchange):
    """An exchange that owns the transport from the first byte of its reply to the last."""

    def __init__(self, protocol: DirectProtocol, cycle: RequestResponseCycle) -> None:
        super().__init__(cycle.scope, cycle.receive)  # type: ignore[arg-type]
        self._protocol = protocol
        self._cycle = cycle
        self._write = protocol.transport.write
        self._chunked = cycle.scope["http_version"] != "1.0"
        self._over: asyncio.Future[None] = protocol.loop.create_future()

    def begin(self) -> None:
        """From now on this exchange hears when the connection is lost."""
        self._protocol.under_way = self
        if self._cycle.disconnected:
            self.lost(CancelWhy.CLIENT_LEFT)

    def lost(self, why: CancelWhy) -> None:
        self._protocol.under_way = None
        self._lose(why)
        if not self._over.done():
            self._over.set_result(None)

    @property
    def unsent_bytes(self) -> int:
        return int(self._protocol.transport.get_write_buffer_size())

    def _arrived(self) -> bool:
        return not self._cycle.more_body

    def reply(self, status: int, headers: Headers, body: bytes) -> None:
        head = self._head(status, headers, b"content-length: %d\r\n" % len(body))
        self._write(head if self.method == "HEAD" else head + body)
        self._complete()

    def start(self, headers: Headers, data: bytes) -> None:
        if not self._chunked:
            self._cycle.keep_alive = False
        coding = b"transfer-encoding: chunked\r\n" if self._chunked else b""
        self._write(self._head(200, headers, coding) + self._framed(data))

    def _head(self, status: int, headers: Headers, framing: bytes) -> bytes:
        cycle = self._cycle
        self.started = cycle.response_started = True
        cycle.waiting_for_100_continue = False
        lines = [STATUS_LINES[status]]
        groups: Sequence[Headers] = (cycle.default_headers, headers, self.extra_headers)
        lines += [b"%b: %b\r\n" % pair for group in groups for pair in group]
        lines.append(framing)
        if not cycle.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)

    def write(self, data: bytes) -> None:
        self._write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        # Set by the transport while more than its high-water mark is unsent.
        if self._protocol.flow.write_paused:
            self._check_backlog()

    def end(self, data: bytes = b"") -> None:
        self._write(self._framed(data) + (b"0\r\n\r\n" if self._chunked else b""))
        self._complete()

    def _framed(self, data: bytes) -> bytes:
        # An empty piece would be read as the end.
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked and data else data

    async def finished(self) -> None:
        await self._over

    def _check_backlog(self) -> None:
        protocol = self._protocol
        if protocol.transport.get_write_buffer_size() > protocol.max_unsent_bytes:
            self.give_up(CancelWhy.CLIENT_SLOW)

    def give_up(self, why: CancelWhy) -> None:
        self._cycle.disconnected = True
        self._protocol.transport.abort()
        self.lost(why)

    def _complete(self) -> None:
        cycle = self._cycle
        self._protocol.under_way = None
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            self._protocol.transport.close()
        cycle.on_response()
        if not self._over.done():
            self._over.set_result(None)
