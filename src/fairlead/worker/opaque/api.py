"""The connection to an engine's server. Whatever goes wrong comes out as `ServerError`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec

from fairlead.model import ConfigError
from fairlead.worker.opaque.chunks import DONE, Chunk, EventReader, decoder
from fairlead.worker.opaque.errors import ServerError, What, of_status

ANSWER_S = 10.0
"""For questions that a server answers by itself, however much its engine has to do."""
CONNECT_S = 5.0
MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024


def base_url(url: str) -> str:
    """`http://host:port`, whether or not `/v1` was given. Raises `ConfigError`."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(
            f"url {url!r} is no address of a server; expected something like http://127.0.0.1:8000"
        )
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


class Api:
    """What a worker asks of a server. Close it."""

    def __init__(self, url: str, api_key: str = "") -> None:
        self.url = base_url(url)
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._session: aiohttp.ClientSession | None = None

    async def get_json(self, path: str) -> Any:
        return _json(path, await self.get(path))

    async def post_json(
        self, path: str, body: Mapping[str, Any], within_s: float = ANSWER_S
    ) -> Any:
        return _json(path, await self._ask("POST", path, msgspec.json.encode(body), within_s))

    async def get(self, path: str) -> bytes:
        return await self._ask("GET", path, None)

    async def complete(self, path: str, body: Mapping[str, Any], within_s: float) -> Chunk:
        """A whole answer, without streaming."""
        data = await self._ask("POST", path, msgspec.json.encode(body), within_s)
        try:
            return decoder.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ServerError(What.GARBAGE, f"{path} answers with no answer: {error}") from error

    async def stream(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[Chunk, None]:
        """The chunks of an answer up to and with `DONE`; whoever stops listening hangs up.

        A stream that ends without that word was cut off, which is `ServerError`.
        """
        reader = EventReader()
        async with self._stream_reply(path, msgspec.json.encode(body)) as reply:
            try:
                async for data in reply.content.iter_any():
                    for chunk in reader.feed(data):
                        yield chunk
                        if chunk is DONE:
                            return
            except (aiohttp.ClientError, OSError) as error:
                raise _unreachable(error, "the stream broke off") from error
        raise ServerError(What.ILL, "the stream ended before the answer did")

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    @contextlib.asynccontextmanager
    async def _stream_reply(self, path: str, data: bytes) -> AsyncIterator[aiohttp.ClientResponse]:
        async with await self._post(path, data) as reply:
            if reply.status != 200:
                body = await _read(reply, MAX_ERROR_BYTES)
                raise of_status(reply.status, body, reply.headers.get("retry-after"))
            yield reply

    async def _post(self, path: str, data: bytes) -> aiohttp.ClientResponse:
        """Once more where a connection of an earlier request had been closed meanwhile: some
        servers close it after every answer, which shows only when it is used again."""
        url = self.url + path
        for last in (False, True):
            try:
                return await self._http().post(
                    url, data=data, headers=_JSON, timeout=_STREAM, allow_redirects=False
                )
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                if last or isinstance(error, aiohttp.ClientConnectorError):
                    raise _unreachable(error) from error
            except (aiohttp.ClientError, OSError) as error:
                raise _unreachable(error) from error
        raise AssertionError("one of two attempts returns or raises")

    async def _ask(
        self, method: str, path: str, data: bytes | None, within_s: float = ANSWER_S
    ) -> bytes:
        timeout = aiohttp.ClientTimeout(total=within_s, sock_connect=CONNECT_S)
        headers = _JSON if data is not None else {}
        try:
            async with self._http().request(
                method,
                self.url + path,
                data=data,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            ) as reply:
                body = await _read(reply, MAX_BODY_BYTES)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise _unreachable(error) from error
        if reply.status != 200:
            raise of_status(reply.status, body, reply.headers.get("retry-after"))
        return body

    def _http(self) -> aiohttp.ClientSession:
        # Made here and not in `__init__`: it belongs to the event loop that runs.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._headers,
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=15),
            )
        return self._session


_JSON = {"Content-Type": "application/json"}
_STREAM = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
"""How long a stream may be silent is its worker's to judge."""


async def _read(reply: aiohttp.ClientResponse, most: int) -> bytes:
    parts, n = [], 0
    async for data in reply.content.iter_any():
        parts.append(data)
        n += len(data)
        if n > most:
            raise ServerError(What.ILL, f"it answers with over {most} bytes")
    return b"".join(parts)


def _json(path: str, body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ServerError(What.GARBAGE, f"{path} does not answer with JSON") from error


def _unreachable(error: BaseException, otherwise: str = "") -> ServerError:
    if isinstance(error, TimeoutError):
        return ServerError(What.UNREACHABLE, "no answer in time")
    cause = getattr(error, "os_error", None) or error
    number = getattr(cause, "errno", None)
    plain = os.strerror(number) if isinstance(number, int) and number > 0 else ""
    said = plain or getattr(cause, "strerror", None) or otherwise or str(cause)
    return ServerError(What.UNREACHABLE, said or type(cause).__name__)
