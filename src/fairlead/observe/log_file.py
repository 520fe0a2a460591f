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
"""Of the log and its older parts together; some three million requests."""
PARTS = 8
"""The log is in so many files at most; so much of it is lost at a time."""
BUFFER_BYTES = 1 << 16

_encode = msgspec.json.Encoder().encode


class LogFile:
    """Lines that are streamed to a file. When the file has its share of what is allowed, it becomes
    the first older part (`NAME.1`; the one before becomes `NAME.2`, and so on, the oldest is lost)
    and a new one begins.

    A disk that will take no more ends the log, and nothing else: `tell` hears of it once."""

    def __init__(
        self,
        path: Path,
        about: Mapping[str, Any],
        tell: Callable[[str], None],
        max_bytes: int = MAX_BYTES,
        keep: bool = False,
    ) -> None:
        """`about` goes into the first line of every part; those of one run have it in common. With
        `keep`, what an earlier run wrote becomes older parts; without, it is replaced. Raises
        `ConfigError` where nothing can be written."""
        self.path = path
        self._about = about
        self._tell = tell
        self._part_bytes = max_bytes // PARTS
        self._file: BinaryIO | None = None
        try:
            if not keep:
                for i in range(1, PARTS):
                    older(path, i).unlink(missing_ok=True)
            elif path.exists() and path.stat().st_size:
                self._make_older()
            self._begin()
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}.") from error

    def write(self, line: Mapping[str, Any]) -> None:
        if self._file is None:
            return
        data = _encode(line) + b"\n"
        try:
            if self._written + len(data) > self._part_bytes:
                self._file.close()
                self._make_older()
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

    def _make_older(self) -> None:
        for i in range(PARTS - 2, 0, -1):
            if older(self.path, i).exists():
                older(self.path, i).replace(older(self.path, i + 1))
        self.path.replace(older(self.path))

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


def older(path: Path, i: int = 1) -> Path:
    """Where the earlier lines of a log are once it has grown too long for one file; the higher,
    the earlier."""
    return path.with_name(f"{path.name}.{i}")


def parts(path: Path) -> list[Path]:
    """All files of a log that are there, the earliest first."""
    files = [older(path, i) for i in range(PARTS - 1, 0, -1)] + [path]
    return [file for file in files if file.exists()]
