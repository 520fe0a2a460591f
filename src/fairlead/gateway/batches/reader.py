"""Reads the lines of an input file, a few at a time: a file of any size takes no more memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fairlead.gateway.batches.lines import name_of
from fairlead.model import RequestError

AT_A_TIME_BYTES = 1 << 20
AT_A_TIME_LINES = 256
SHOWN = 20
"""Of lines that share a name, so many are listed."""


@dataclass(frozen=True, slots=True)
class Raw:
    """A line as it stands in the file."""

    n: int
    data: bytes
    """Without its line break; what is longer than a body may be is cut off."""
    end: int
    """Where the next begins."""
    is_whole: bool = True


class Reader:
    """Goes on from a line that begins at an offset. Blocking."""

    def __init__(self, path: Path, n: int, offset: int, max_line_bytes: int) -> None:
        self._file = path.open("rb")
        self._file.seek(offset)
        self._n = n
        self._offset = offset
        self._max_line_bytes = max_line_bytes

    def some(self) -> list[Raw]:
        """The next lines; none at the end."""
        found: list[Raw] = []
        size = 0
        while size < AT_A_TIME_BYTES and len(found) < AT_A_TIME_LINES:
            raw = self._next()
            if raw is None:
                break
            size += len(raw.data)
            found.append(raw)
        return found

    def _next(self) -> Raw | None:
        while data := self._file.readline(self._max_line_bytes + 1):
            self._offset += len(data)
            is_whole = data.endswith(b"\n") or len(data) <= self._max_line_bytes
            if not is_whole:
                self._skip_rest()
            if data.strip():
                self._n += 1
                return Raw(self._n - 1, data.strip(), self._offset, is_whole)
        return None

    def _skip_rest(self) -> None:
        while data := self._file.readline(AT_A_TIME_BYTES):
            self._offset += len(data)
            if data.endswith(b"\n"):
                return

    def close(self) -> None:
        self._file.close()


class Census:
    """Counts the lines of a file, and finds names that two of them share: 8 bytes a line."""

    def __init__(self, path: Path, max_lines: int, max_line_bytes: int) -> None:
        self._path = path
        self._reader = Reader(path, 0, 0, max_line_bytes)
        self._max_lines = max_lines
        self._max_line_bytes = max_line_bytes
        self._hashes: list[np.ndarray] = []
        self.n = 0

    def step(self) -> bool:
        """Takes some more in; False at the end. Raises `RequestError` where they are too many."""
        lines = self._reader.some()
        self.n += len(lines)
        if self.n > self._max_lines:
            raise RequestError(
                f"the file has more than {self._max_lines} lines; split it", code="too_many_lines"
            )
        self._hashes.append(np.array([_hash(line) for line in lines], np.int64))
        return bool(lines)

    def repeated(self) -> list[tuple[int, str]]:
        """Lines whose name an earlier one has, the first few of them."""
        hashes = np.concatenate(self._hashes)
        order = np.argsort(hashes, kind="stable")
        same = np.flatnonzero(np.diff(hashes[order]) == 0)
        suspects = {int(n) for n in order[same + 1]} | {int(n) for n in order[same]}
        return list(self._confirmed(suspects))[:SHOWN] if suspects else []

    def _confirmed(self, suspects: set[int]) -> Iterator[tuple[int, str]]:
        """Two names may share a hash: those of the suspects are read again."""
        seen: set[str] = set()
        reader = Reader(self._path, 0, 0, self._max_line_bytes)
        try:
            while lines := reader.some():
                for line in lines:
                    if line.n in suspects and (name := name_of(line.data)):
                        if name in seen:
                            yield line.n, name
                        seen.add(name)
        finally:
            reader.close()

    def close(self) -> None:
        self._reader.close()


def _hash(line: Raw) -> int:
    """Lines without a name differ from all others."""
    name = name_of(line.data)
    return hash(name) if name else hash((line.n, "without a name"))
