"""A result file whose place is made sure of before the work that fills it."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from fairlead.model import ConfigError, FairleadError

RESERVED_BYTES = 256 * 1024
"""Held on the disk from the start: a Summary with its curves is smaller."""


class WriteError(FairleadError):
    """A finished result could not be written."""


class OutFile:
    """Holds a place on the disk; `write` fills it in one piece, so that a reader never finds half
    a file, and an older result stays until the new one is whole. Raises `ConfigError` at once
    where nothing can be written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.is_dir():
            raise ConfigError(f"{path} is a folder; give the name of a file to write.")
        if not path.parent.is_dir():
            raise ConfigError(f"cannot write {path}: there is no folder {path.parent}.")
        self._draft = path if _is_special(path) else path.with_name(f".{path.name}.draft")
        try:
            self._reserve()
        except OSError as error:
            self.give_up()
            raise ConfigError(f"cannot write {path}: {error.strerror}.") from error

    def write(self, text: str) -> None:
        """Raises `WriteError` where the disk will not take it."""
        try:
            if self._draft == self.path:
                self.path.write_text(text, encoding="utf-8")
            else:
                self._fill(text.encode())
                self._draft.replace(self.path)
        except OSError as error:
            self.give_up()
            raise WriteError(f"cannot write {self.path}: {error.strerror}.") from error

    def _fill(self, data: bytes) -> None:
        """Writes over what was reserved, so that the place is never let go in between."""
        with self._draft.open("r+b") as file:
            file.write(data)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())

    def give_up(self) -> None:
        """Frees the place."""
        if self._draft != self.path:
            with suppress(OSError):
                self._draft.unlink(missing_ok=True)

    def _reserve(self) -> None:
        if self._draft == self.path:
            with self.path.open("ab"):
                return
        if self.path.exists() and not os.access(self.path, os.W_OK):
            raise PermissionError(13, "the file is read-only")
        with self._draft.open("wb") as file:
            file.write(bytes(RESERVED_BYTES))
            file.flush()
            os.fsync(file.fileno())


def _is_special(path: Path) -> bool:
    """A device or a pipe: nothing can be put in its place."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False
