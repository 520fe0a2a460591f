"""A worker's tie to the process that started it: a pipe on its standard input."""

from __future__ import annotations

import os
import threading

STDIN = 0


def follow_parent() -> str:
    """Returns the token, the first line on standard input. From then on this process ends the
    moment the other end of the pipe closes, so that it cannot outlive its parent."""
    token = _first_line()
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    return token


def _first_line() -> str:
    line = bytearray()
    # A byte at a time: what comes after the line is not ours to swallow.
    while (byte := os.read(STDIN, 1)) not in (b"", b"\n"):
        line += byte
    return line.decode()


def _end_with_parent() -> None:
    while os.read(STDIN, 4096):
        pass
    # Nobody is left to read what would be flushed, and the engine may be in the middle of a step.
    os._exit(1)
