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

LINGER_S = 30.0
"""For what is unsent when a connection is closed."""

STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in http.HTTPStatus}


class DirectProtocol(HttpToolsProtocol):
    """uvicorn's connection, which lends its transport to the exchange under way."""

    max_unsent_bytes = 1024 * 1024
    """Of one reply; a subclass made for one gateway sets its own, as of the next two."""
    max_connections = 16384
    head_timeout_s = 10.0

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
        self._head_timer: asyncio.TimerHandle | None = None
        """Runs while bytes have come that are no whole request."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        if len(self.connections) > self.max_connections:
            self.refuse(503, "too many connections; use fewer, or try again later")
            return
        # One that never asks anything is idle from the start.
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._open_head_bytes is not None:
            self._open_head_bytes += len(data)
            if self._open_head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response(
                    f"more than {MAX_HEAD_BYTES} bytes of address and headers; send fewer"
                )
        elif self.cycle is not None and not self.cycle.response_complete:
            self._stop_head_timer()
            return
        # Part of a head, or what nobody asked for: more of it does not begin the time anew.
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_timeout_s, self._head_is_late)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.under_way is not None:
            return  # The next one's head, while this one's answer is still being written.
        if not self.transport.is_closing():
            self.refuse(
                408, f"the headers did not arrive within {self.head_timeout_s:g} s; send them whole"
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

    def timeout_keep_alive_handler(self) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        """Closes the connection once all is sent. A client that does not read its answer does not
        keep it open."""
        if not self.transport.is_closing():
            self.transport.close()
            if self.transport.get_write_buffer_size():
                self.loop.call_later(LINGER_S, self.transport.abort)

    def eof_received(self) -> None:
        """The client says no more, and the transport is about to close: what would be written from
        now on does not leave, so that it must not be counted either."""
        if self.under_way is not None:
            self.under_way.left()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)
        if self.under_way is not None:
            self.under_way.lost(CancelWhy.CLIENT_LEFT)
        # What refers to itself would stay until the garbage collector looks, which is rarely.
        self._unset_keepalive_if_required()
        self.cycle = None  # type: ignore[assignment]
        self.pipeline.clear()

    def send_400_response(self, msg: str) -> None:
        """What cannot be parsed as HTTP is answered in OpenAI's error shape, too."""
        self.refuse(400, msg)

    def refuse(self, status: int, msg: str) -> None:
        """Answers what never became a request, and hangs up."""
        error = {"message": msg, "type": "invalid_request_error", "param": None, "code": None}
        body = msgspec.json.encode({"error": error})
        self.transport.write(
            STATUS_LINES[status] + b"content-type: application/json\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )
        self.hang_up()


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

    def left(self) -> None:
        """Nobody is there to be answered, though the connection is not closed yet."""
        self._cycle.disconnected = True
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
            self._protocol.hang_up()
        cycle.on_response()
        if not self._over.done():
            self._over.set_result(None)
