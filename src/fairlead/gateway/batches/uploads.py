"""An upload: from the client's socket into a file, a piece at a time."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import time
from collections.abc import Callable, Collection
from pathlib import Path

from fairlead.gateway.batches.config import BatchesConfig
from fairlead.gateway.batches.form import Form
from fairlead.gateway.exchange import Exchange
from fairlead.model import RequestError
from fairlead.store.batch import StoredFile

PURPOSES = ("batch",)
WRITE_BYTES = 1 << 18
FORM_BYTES = 1 << 16
"""What a form may have beside its file."""
MAX_NAME = 255
ORPHAN_AGE_S = 3600.0
"""An upload to which nothing was written for so long is not under way any more."""
ASKED_AT_ONCE = 500
_NAME = re.compile(r"file-[0-9a-f]{24}")


class Upload:
    """Of one file; `close` whatever becomes of it."""

    def __init__(self, folder: Path, config: BatchesConfig, room_bytes: int) -> None:
        """`room_bytes` is what the tenant's files may still take."""
        self.id = f"file-{secrets.token_hex(12)}"
        self._path = folder / self.id
        self._config = config
        self._room_bytes = room_bytes
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._waiting: list[bytes] = []
        self._n_waiting = 0
        self.size = 0
        self._kept = False

    async def read(self, exchange: Exchange, timeout_s: float) -> Form:
        """The whole form; its file is on disk. Raises `RequestError`, `ClientGone`."""
        self._check_length(exchange)
        form = Form(exchange.header(b"content-type"), self._take)
        async for piece in exchange.pieces(timeout_s):
            form.feed(piece)
            if self._n_waiting >= WRITE_BYTES:
                await self._write()
        await self._write()
        if not form.is_whole:
            raise RequestError("the upload ends before its form does", code="invalid_form")
        await asyncio.to_thread(os.fsync, self._file)
        return form

    def stored(self, form: Form, tenant: str, now_s: float) -> StoredFile:
        """What was uploaded. Raises `RequestError` where that is nothing of use."""
        purpose = form.fields.get("purpose")
        if purpose not in PURPOSES:
            said = f"purpose must be 'batch', got {purpose!r}"
            raise RequestError(said, param="purpose", code="invalid_value")
        if not form.has_file or not self.size:
            raise RequestError("the part 'file' is missing or empty", param="file", code="missing")
        name = "".join(c for c in form.filename if c.isprintable())[:MAX_NAME] or "unnamed"
        return StoredFile(self.id, tenant, purpose, name, self.size, now_s)

    def keep(self) -> None:
        self._kept = True

    def close(self) -> None:
        os.close(self._file)
        if not self._kept:
            self._path.unlink(missing_ok=True)

    def _check_length(self, exchange: Exchange) -> None:
        length = exchange.header(b"content-length") or b"0"
        if length.isdigit() and int(length) > self._config.max_file_bytes + FORM_BYTES:
            raise self._too_large()

    def _take(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self._config.max_file_bytes:
            raise self._too_large()
        if self.size > self._room_bytes:
            raise RequestError(
                f"this tenant's files may come to {self._config.max_tenant_gib:g} GiB, and this one"
                " would go beyond; delete some",
                status=413,
                code="storage_full",
                param="file",
            )
        self._waiting.append(data)
        self._n_waiting += len(data)

    async def _write(self) -> None:
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._n_waiting = 0
        try:
            await asyncio.to_thread(_write_all, self._file, data)
        except OSError as error:
            raise RequestError(
                f"the file cannot be kept: {error.strerror}",
                status=507,
                code="no_storage",
                kind="server_error",
            ) from error

    def _too_large(self) -> RequestError:
        return RequestError(
            f"a file may have {self._config.max_file_mib:g} MiB; split it",
            status=413,
            code="file_too_large",
            param="file",
        )


def sweep(folder: Path, known: Callable[[Collection[str]], set[str]]) -> int:
    """Removes uploads that a gateway which was killed had not finished; returns how many. `known`
    are those ids that the database has. Blocking."""
    before_s = time.time() - ORPHAN_AGE_S
    old = [
        entry.name
        for entry in os.scandir(folder)
        if _NAME.fullmatch(entry.name) and entry.stat().st_mtime < before_s
    ]
    n = 0
    for i in range(0, len(old), ASKED_AT_ONCE):
        some = old[i : i + ASKED_AT_ONCE]
        for orphan in set(some) - known(some):
            (folder / orphan).unlink(missing_ok=True)
            n += 1
    return n


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
