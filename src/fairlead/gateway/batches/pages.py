"""`/v1/files` and `/v1/batches`, as OpenAI has them. A tenant finds its own, and nobody else's."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs

import msgspec

from fairlead.gateway.batches import shown
from fairlead.gateway.batches.config import BatchesConfig
from fairlead.gateway.batches.lines import ENDPOINTS
from fairlead.gateway.batches.uploads import Upload
from fairlead.gateway.exchange import Exchange
from fairlead.gateway.tenants.caller import Caller
from fairlead.model import CancelWhy, RequestError
from fairlead.store.batch import OPEN, Batch, StoredFile
from fairlead.store.batches import BatchStore
from fairlead.store.database import StoreError

READ_BYTES = 1 << 18
BEHIND_BYTES = 1 << 18
LOOK_AGAIN_S = 0.005
MAX_LIMIT = {"files": 10_000, "batches": 100}
SHORTEST_S, LONGEST_S = 60, 30 * 86_400
_UNITS_S = {"m": 60, "h": 3600, "d": 86_400}
_JSON = (b"content-type", b"application/json")


class _Asked(msgspec.Struct):
    input_file_id: str
    endpoint: str
    completion_window: str = "24h"
    metadata: dict[str, str] | None = None


class Service(Protocol):
    """As much of the service as is needed here."""

    config: BatchesConfig
    store: BatchStore
    folder: Path
    clock: Callable[[], float]

    async def ask(self, work: Callable[..., Any], *arguments: Any) -> Any: ...
    def look(self) -> None: ...


class BatchPages:
    """Answers below `/v1/files` and `/v1/batches`."""

    def __init__(self, service: Service, body_timeout_s: float, max_body_bytes: int) -> None:
        self.service = service
        self._store = service.store
        self._body_timeout_s = body_timeout_s
        self._max_body_bytes = max_body_bytes

    async def show(self, exchange: Exchange, caller: Caller) -> None:
        """Raises `RequestError`."""
        parts = exchange.path.removeprefix("/v1/").split("/")
        method = "GET" if exchange.method == "HEAD" else exchange.method
        try:
            await self._show(exchange, caller, method, parts)
        except StoreError as error:
            raise RequestError(
                "the database of files and batches does not answer; try again",
                status=503,
                code="database_unavailable",
                kind="server_error",
                retry_after_s=1.0,
            ) from error

    async def _show(
        self, exchange: Exchange, caller: Caller, method: str, parts: Sequence[str]
    ) -> None:
        match (method, *parts):
            case ("POST", "files"):
                await self._upload(exchange, caller)
            case ("GET", "files"):
                await self._list_files(exchange, caller)
            case ("GET", "files", id):
                _reply(exchange, shown.file(await self._file(caller, id)))
            case ("DELETE", "files", id):
                await self._delete(exchange, caller, id)
            case ("GET", "files", id, "content"):
                await self._content(exchange, await self._file(caller, id))
            case ("POST", "batches"):
                await self._create(exchange, caller)
            case ("GET", "batches"):
                await self._list_batches(exchange, caller)
            case ("GET", "batches", id):
                _reply(exchange, shown.batch(await self._batch(caller, id)))
            case ("POST", "batches", id, "cancel"):
                await self._cancel(exchange, caller, id)
            case _:
                raise RequestError(
                    f"there is nothing to {exchange.method} at {exchange.path}",
                    status=404,
                    code="unknown_url",
                )

    # ---------------------------------------------------------------- files

    async def _upload(self, exchange: Exchange, caller: Caller) -> None:
        service, config = self.service, self.service.config
        n, used = await service.ask(self._store.used, caller.name)
        if n >= config.max_files:
            said = f"this tenant has {n} files, and may have {config.max_files}; delete some"
            raise RequestError(said, status=413, code="too_many_files")
        upload = Upload(service.folder, config, config.max_tenant_bytes - used)
        try:
            form = await upload.read(exchange, self._body_timeout_s)
            stored = upload.stored(form, caller.name, service.clock())
            await service.ask(self._store.add_file, stored)
            upload.keep()
        finally:
            upload.close()
        _reply(exchange, shown.file(stored))

    async def _list_files(self, exchange: Exchange, caller: Caller) -> None:
        given = parse_qs(exchange.query)
        limit, after = _page(given, "files")
        purpose = given.get("purpose", [None])[0]
        ask = (self._store.files, caller.name, purpose, after, limit)
        rows: list[StoredFile] = await self.service.ask(*ask)
        _reply(exchange, shown.page([shown.file(row) for row in rows], limit))

    async def _file(self, caller: Caller, id: str) -> StoredFile:
        found: StoredFile | None = await self.service.ask(self._store.file, caller.name, id)
        if found is None:
            raise _missing("file", id, "id")
        return found

    async def _delete(self, exchange: Exchange, caller: Caller, id: str) -> None:
        await self._file(caller, id)
        reader = await self.service.ask(self._store.delete_file, caller.name, id)
        if reader is not None:
            said = f"{reader} still reads this file; cancel it first, or wait for its end"
            raise RequestError(said, status=409, code="file_in_use")
        await asyncio.to_thread((self.service.folder / id).unlink, missing_ok=True)
        _reply(exchange, {"id": id, "object": "file", "deleted": True})

    async def _content(self, exchange: Exchange, stored: StoredFile) -> None:
        """As fast as the client reads, and no faster: a file is larger than what may wait."""
        try:
            file = os.open(self.service.folder / stored.id, os.O_RDONLY)
        except OSError:
            raise _missing("file", stored.id, "id") from None
        kind = (b"content-type", b"application/x-ndjson")
        try:
            if exchange.method == "HEAD" or not stored.bytes:
                exchange.reply(200, [kind], b"")
                return
            exchange.start([kind], await asyncio.to_thread(os.read, file, READ_BYTES))
            sending = asyncio.ensure_future(exchange.finished())
            try:
                await self._send_rest(exchange, file)
                await sending
            finally:
                sending.cancel()
        finally:
            os.close(file)

    async def _send_rest(self, exchange: Exchange, file: int) -> None:
        while not exchange.gone:
            await self._until_taken(exchange)
            piece = await asyncio.to_thread(os.read, file, READ_BYTES)
            if exchange.gone:
                return
            if not piece:
                exchange.end()
                return
            exchange.write(piece)

    async def _until_taken(self, exchange: Exchange) -> None:
        """Raises `TimeoutError` where the client reads nothing for as long as it may send
        nothing."""
        loop = asyncio.get_running_loop()
        least, since_s = exchange.unsent_bytes, loop.time()
        while not exchange.gone and exchange.unsent_bytes > BEHIND_BYTES:
            await asyncio.sleep(LOOK_AGAIN_S)
            if exchange.unsent_bytes < least:
                least, since_s = exchange.unsent_bytes, loop.time()
            elif loop.time() - since_s > self._body_timeout_s:
                exchange.give_up(CancelWhy.CLIENT_SLOW)

    # ---------------------------------------------------------------- batches

    async def _create(self, exchange: Exchange, caller: Caller) -> None:
        body = await exchange.body(self._max_body_bytes, self._body_timeout_s)
        asked = _parse(body)
        service, config = self.service, self.service.config
        if asked.endpoint not in ENDPOINTS:
            raise RequestError(
                f"endpoint must be one of {', '.join(ENDPOINTS)}, got {asked.endpoint!r}",
                param="endpoint",
                code="invalid_value",
            )
        caller.tier(config.service_tier, config.service_tier)  # Raises where it may not be.
        file = await self._file(caller, asked.input_file_id)
        if file.purpose != "batch":
            said = f"{file.id} has the purpose {file.purpose!r}; upload a file with 'batch'"
            raise RequestError(said, param="input_file_id", code="invalid_value")
        n = await service.ask(self._store.n_open, caller.name)
        if n >= config.max_open:
            raise RequestError(
                f"{n} batches of this tenant have not ended, and it may have {config.max_open}",
                status=429,
                code="too_many_batches",
                kind="rate_limit_error",
                retry_after_s=60.0,
            )
        now_s = service.clock()
        batch = Batch(
            id=f"batch_{secrets.token_hex(12)}",
            tenant=caller.name,
            key_id=caller.key_id,
            endpoint=asked.endpoint,
            input_file=file.id,
            window=asked.completion_window,
            created_s=now_s,
            expires_s=now_s + _window_s(asked.completion_window),
            metadata=asked.metadata or {},
        )
        await service.ask(self._store.add_batch, batch)
        service.look()
        _reply(exchange, shown.batch(batch))

    async def _list_batches(self, exchange: Exchange, caller: Caller) -> None:
        limit, after = _page(parse_qs(exchange.query), "batches")
        rows: list[Batch] = await self.service.ask(self._store.batches, caller.name, after, limit)
        _reply(exchange, shown.page([shown.batch(row) for row in rows], limit))

    async def _batch(self, caller: Caller, id: str) -> Batch:
        found: Batch | None = await self.service.ask(self._store.batch, caller.name, id)
        if found is None:
            raise _missing("batch", id, "batch_id")
        return found

    async def _cancel(self, exchange: Exchange, caller: Caller, id: str) -> None:
        await self._batch(caller, id)
        now_s = self.service.clock()
        await self.service.ask(self._store.ask_to_cancel, caller.name, id, now_s)
        batch = await self._batch(caller, id)
        if batch.status not in (*OPEN, "cancelled"):
            said = f"{id} is {batch.status}; only a batch that has not ended can be cancelled"
            raise RequestError(said, status=409, code="batch_ended")
        self.service.look()
        _reply(exchange, shown.batch(batch))


def _parse(body: bytes) -> _Asked:
    try:
        asked = msgspec.json.decode(body, type=_Asked)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        said = f"{error}; send input_file_id, endpoint and completion_window as JSON"
        raise RequestError(said, code="invalid_value") from None
    metadata = asked.metadata or {}
    if len(metadata) > 16 or any(len(k) > 64 or len(v) > 512 for k, v in metadata.items()):
        raise RequestError(
            "metadata may have 16 pairs, of keys with 64 and values with 512 characters",
            param="metadata",
            code="invalid_value",
        )
    _window_s(asked.completion_window)
    return asked


def _window_s(text: str) -> float:
    found = re.fullmatch(r"(\d{1,6})([mhd])", text)
    seconds = int(found[1]) * _UNITS_S[found[2]] if found else 0
    if not SHORTEST_S <= seconds <= LONGEST_S:
        raise RequestError(
            f"completion_window must be from 1m to 30d, such as 24h, got {text[:32]!r}",
            param="completion_window",
            code="invalid_value",
        )
    return seconds


def _page(given: dict[str, list[str]], what: str) -> tuple[int, str]:
    most = MAX_LIMIT[what]
    text = given.get("limit", ["20" if what == "batches" else str(most)])[0]
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= most:
        said = f"limit must be a number from 1 to {most}, got {text[:32]!r}"
        raise RequestError(said, param="limit", code="invalid_value")
    return int(text), given.get("after", [""])[0]


def _missing(what: str, id: str, param: str) -> RequestError:
    said = f"there is no {what} {id[:64]!r}"
    return RequestError(said, status=404, code=f"{what}_not_found", param=param)


def _reply(exchange: Exchange, value: object) -> None:
    exchange.reply(200, [_JSON], msgspec.json.encode(value))
