"""The file of an event log: lines of JSON, bounded, and never the end of whoever writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from fairlead import __version__
from fairlead.model import ConfigError

FORMAT = 1
MAX_BYTES = 2 << 30
"""Of the log and the older part beside it together; some ten million requests."""
BUFFER_BYTES = 1 << 16

_encode = msgspec.json.Encoder().encode


class LogFile:
    """Lines that are streamed to a file. When the file is half of what is allowed, it becomes the
    older part (`NAME.1`, in the place of the one before) and a new one begins.

    A disk that will take no more ends the log, and nothing else: `tell` hears of it once."""

    def __init__(
        self,
        path: Path,
        about: Mapping[str, Any],
        tell: Callable[[str], None],
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """`about` goes into the first line. Raises `ConfigError` where nothing can be written."""
        self.path = path
        self._about = about
        self._tell = tell
        self._half_bytes = max_bytes // 2
        self._file: BinaryIO | None = None
        try:
            older(path).unlink(missing_ok=True)
            self._begin()
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}.") from error

    def write(self, line: Mapping[str, Any]) -> None:
        if self._file is None:
            return
        data = _encode(line) + b"\n"
        try:
            if self._written + len(data) > self._half_bytes:
                self._file.close()
                self.path.replace(older(self.path))
                self._begin()
            self._written += self._file.write(data)
        except OSError as error:
            self._give_up(error)

    def flush(self) -> None:
        if self._file is not None:
            try:
                self._file.flush()
            except OSError as error:
                self._give_up(error)

    def close(self) -> None:
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> None:
        self._file = self.path.open("wb", buffering=BUFFER_BYTES)
        head = {"what": "log", "format": FORMAT, "fairlead": __version__, **self._about}
        self._written = self._file.write(_encode(head) + b"\n")

    def _give_up(self, error: OSError) -> None:
        file, self._file = self._file, None
        self._tell(f"the event log {self.path} ends here: {error.strerror}")
        if file is not None:
            with suppress(OSError):  # closing writes what is left, which cannot be written
                file.close()


def older(path: Path) -> Path:
    """Where the earlier lines of a log are once it has grown too long for one file."""
    return path.with_name(path.name + ".1")
