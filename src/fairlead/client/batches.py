"""Files and batches of any OpenAI-compatible server, from outside."""

from __future__ import annotations

import http.client
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from fairlead.client.errors import connection_error, message_of_body
from fairlead.client.server import base_url, headers
from fairlead.model import ConfigError

ANSWER_S = 60.0
PIECE_BYTES = 1 << 18
MOST_BYTES = 1 << 24
PAGE = 100
ENDED = ("completed", "failed", "expired", "cancelled")

Told = Callable[[int], None]
"""Hears how many bytes have gone."""


class NoAnswerError(Exception):
    """Nobody answers now; somebody may in a while."""


class BatchClient:
    """Blocking. Every method raises `ConfigError` where the server refuses, and `NoAnswerError`
    where it does not answer."""

    def __init__(self, url: str, api_key: str | None) -> None:
        """Raises `ConfigError` where that is no address."""
        self.url = base_url(url)
        self._headers = headers(api_key)

    def upload(self, path: Path, told: Told) -> dict[str, Any]:
        """The file that it is there."""
        boundary = secrets.token_hex(16)
        name = path.name.replace("\\", "_").replace('"', "_")
        begin = (
            f'--{boundary}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="{name}"\r\n'
            "content-type: application/jsonl\r\n\r\n"
        ).encode()
        end = f"\r\n--{boundary}--\r\n".encode()
        try:
            file = path.open("rb")
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from None
        with file:
            size = os.fstat(file.fileno()).st_size
            head = {
                "content-type": f"multipart/form-data; boundary={boundary}",
                "content-length": str(len(begin) + size + len(end)),
            }
            body = _form(begin, file, end, told)
            found: dict[str, Any] = self._json("POST", "/v1/files", body, head)
        return found

    def create(
        self, file: str, endpoint: str, window: str, metadata: dict[str, str]
    ) -> dict[str, Any]:
        asked = {
            "input_file_id": file,
            "endpoint": endpoint,
            "completion_window": window,
            "metadata": metadata or None,
        }
        body = msgspec.json.encode(asked)
        kind = {"content-type": "application/json"}
        found: dict[str, Any] = self._json("POST", "/v1/batches", body, kind)
        return found

    def batch(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = self._json("GET", f"/v1/batches/{quote(id, safe='')}")
        return found

    def cancel(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = self._json("POST", f"/v1/batches/{quote(id, safe='')}/cancel")
        return found

    def batches(self, limit: int) -> Iterator[dict[str, Any]]:
        """Newest first."""
        after = ""
        while limit > 0:
            query = {"limit": min(limit, PAGE)} | ({"after": after} if after else {})
            page = self._json("GET", f"/v1/batches?{urlencode(query)}")
            yield from page["data"]
            limit -= len(page["data"])
            after = page["last_id"]
            if not page["has_more"]:
                return

    def size(self, file: str) -> int:
        return int(self._json("GET", f"/v1/files/{quote(file, safe='')}")["bytes"])

    def download(self, file: str, to: BinaryIO, told: Told) -> None:
        connection = self._connect()
        try:
            answer = self._ask(connection, "GET", f"/v1/files/{quote(file, safe='')}/content")
            n = 0
            while piece := answer.read(PIECE_BYTES):
                to.write(piece)
                n += len(piece)
                told(n)
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswerError(f"{self.url}: {connection_error(error)}") from error
        finally:
            connection.close()

    def _json(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        head: dict[str, str] | None = None,
    ) -> Any:
        connection = self._connect()
        try:
            answer = self._ask(connection, method, path, body, head)
            return msgspec.json.decode(answer.read(MOST_BYTES))
        except msgspec.MsgspecError:
            raise ConfigError(f"{self.url}{path} answers, but not with JSON.") from None
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswerError(f"{self.url}: {connection_error(error)}") from error
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        return kind(parts.hostname or "", parts.port, timeout=ANSWER_S)

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        head: dict[str, str] | None = None,
    ) -> http.client.HTTPResponse:
        prefix = urlsplit(self.url).path
        connection.request(method, prefix + path, body, {**self._headers, **(head or {})})
        answer = connection.getresponse()
        if answer.status >= 500 and answer.status not in (501, 507):
            raise NoAnswerError(f"{self.url}: {message_of_body(answer.read(1 << 16))}")
        if answer.status >= 400:
            said = message_of_body(answer.read(1 << 16)).rstrip(".")
            hint = " (--api-key)" if answer.status == 401 else ""
            raise ConfigError(f"{self.url}: {said}{hint}.")
        return answer


def _form(begin: bytes, file: BinaryIO, end: bytes, told: Told) -> Iterator[bytes]:
    yield begin
    n = 0
    while piece := file.read(PIECE_BYTES):
        yield piece
        n += len(piece)
        told(n)
    yield end
