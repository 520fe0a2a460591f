"""One HTTP request and its reply, as the handlers see it.

Handlers read the body with `await`, and then only call: a reply is written by plain methods, so
that a token costs no task switch. What is behind the calls is either the plain ASGI interface
(here; any server, and tests without a port), or the server's own transport (`direct.py`).
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from fairlead.gateway import failures
from fairlead.model import CancelWhy, RequestError

Scope = MutableMapping[str, Any]
AsgiMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[AsgiMessage]]
Send = Callable[[AsgiMessage], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

MAX_DISCARDED_BYTES = 256 * 1024 * 1024
"""Of a body over the limit this much is read and dropped, so that the client hears our answer
instead of a broken connection."""


class ClientGone(Exception):  # noqa: N818 (an outcome, not an error)
    """The client hung up before its request was complete. There is nobody to answer."""


class Exchange(ABC):
    """A request as it came, and the reply as it goes."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: str = scope.get("query_string", b"").decode("latin-1")
        self.raw_headers: list[tuple[bytes, bytes]] = scope["headers"]
        self.extra_headers: list[tuple[bytes, bytes]] = []
        """Added to the reply, whatever it is."""
        self.started = False
        """The reply's status is out; from now on only its body can tell of a failure."""
        self.gone = False
        """The client has hung up, or was given up."""
        self.on_gone: Callable[[CancelWhy], None] | None = None
        """Called once when that happens before the reply has ended."""
        self.error_body: Callable[[RequestError], bytes] = failures.body
        """How the API that was called writes an error."""
        self._receive = receive

    def header(self, name: bytes) -> bytes | None:
        """The first header of that lower-case name."""
        for header, value in self.raw_headers:
            if header == name:
                return value
        return None

    async def body(self, max_bytes: int, timeout_s: float) -> bytes:
        """The whole body. Raises `RequestError` where it is too large or too slow, and
        `ClientGone`."""
        message: AsgiMessage = {"more_body": True}
        if self._arrived():
            message = await self._receive()
        if not message.get("more_body") and message.get("type") == "http.request":
            whole: bytes = message.get("body", b"")
            if len(whole) <= max_bytes:
                return whole
        try:
            async with asyncio.timeout(timeout_s):
                return await self._rest(message, max_bytes)
        except TimeoutError:
            raise RequestError(
                f"the body did not arrive within {timeout_s:g} s; send it faster",
                status=408,
                code="request_timeout",
            ) from None

    async def _rest(self, message: AsgiMessage, max_bytes: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            if message.get("type") == "http.disconnect":
                raise ClientGone
            part = message.get("body", b"")
            size += len(part)
            if size <= max_bytes:
                parts.append(part)
            if not message.get("more_body") or size > MAX_DISCARDED_BYTES:
                break
            message = await self._receive()
        if size > max_bytes:
            raise RequestError(
                f"the body is over the limit of {max_bytes} bytes; send a shorter prompt",
                status=413,
                code="body_too_large",
            )
        return b"".join(parts)

    async def pieces(self, timeout_s: float) -> AsyncIterator[bytes]:
        """The body as it comes, for what is too large to be held. Raises `RequestError` where
        nothing comes for so long, and `ClientGone`."""
        more = True
        while more:
            try:
                async with asyncio.timeout(timeout_s):
                    message = await self._receive()
            except TimeoutError:
                raise RequestError(
                    f"nothing of the body arrived for {timeout_s:g} s; send it faster",
                    status=408,
                    code="request_timeout",
                ) from None
            if message["type"] == "http.disconnect":
                raise ClientGone
            more = message.get("more_body", False)
            if piece := message.get("body", b""):
                yield piece

    @property
    @abstractmethod
    def unsent_bytes(self) -> int:
        """Of what was written, what the client has not taken yet."""

    @abstractmethod
    def give_up(self, why: CancelWhy) -> None:
        """The client takes nothing any more: its connection is closed."""

    def _arrived(self) -> bool:
        """Whether receiving now returns at once."""
        return False

    @abstractmethod
    def reply(self, status: int, headers: Headers, body: bytes) -> None:
        """The whole reply at once."""

    @abstractmethod
    def start(self, headers: Headers, data: bytes) -> None:
        """Begins a reply (status 200) that is written in pieces, with the first of them."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """A piece, not empty; it leaves at once, unless the client is behind."""

    @abstractmethod
    def end(self, data: bytes = b"") -> None:
        """The last piece."""

    @abstractmethod
    async def finished(self) -> None:
        """Returns when the reply has ended or the client is gone."""

    def _lose(self, why: CancelWhy) -> None:
        if not self.gone:
            self.gone = True
            if self.on_gone is not None:
                self.on_gone(why)


class AsgiExchange(Exchange):
    """An exchange over the two ASGI callables."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, max_unsent_bytes: int) -> None:
        super().__init__(scope, receive)
        self._send = send
        self._max_unsent_bytes = max_unsent_bytes
        self._unsent: deque[AsgiMessage] = deque()
        self._unsent_bytes = 0
        self._news = asyncio.Event()
        self._ended = False

    @property
    def unsent_bytes(self) -> int:
        return self._unsent_bytes

    def give_up(self, why: CancelWhy) -> None:
        self._lose(why)
        self._news.set()

    def reply(self, status: int, headers: Headers, body: bytes) -> None:
        length = (b"content-length", b"%d" % len(body))
        self._start(status, [*headers, length])
        self.end(b"" if self.method == "HEAD" else body)

    def start(self, headers: Headers, data: bytes) -> None:
        self._start(200, list(headers))
        self.write(data)

    def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.started = True
        headers += self.extra_headers
        self._push({"type": "http.response.start", "status": status, "headers": headers})

    def write(self, data: bytes) -> None:
        self._push({"type": "http.response.body", "body": data, "more_body": True})
        self._unsent_bytes += len(data)
        if self._unsent_bytes > self._max_unsent_bytes:
            self._lose(CancelWhy.CLIENT_SLOW)

    def end(self, data: bytes = b"") -> None:
        self._ended = True
        self._push({"type": "http.response.body", "body": data, "more_body": False})

    def _push(self, message: AsgiMessage) -> None:
        self._unsent.append(message)
        self._news.set()

    async def finished(self) -> None:
        watch = asyncio.ensure_future(self._watch())
        try:
            while not self.gone and (self._unsent or not self._ended):
                await self._news.wait()
                self._news.clear()
                while self._unsent and not self.gone:
                    message = self._unsent.popleft()
                    await self._send(message)
                    self._unsent_bytes -= len(message.get("body", b""))
        finally:
            watch.cancel()

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._ended:
            self._lose(CancelWhy.CLIENT_LEFT)
            self._news.set()
