"""What goes wrong with an engine's server, sorted by what is to be done about it."""

from __future__ import annotations

import re
from enum import Enum

import msgspec

MAX_SAID_CHARS = 300
_LENGTH = re.compile(
    r"context[ _](length|size|window)|max_model_len|maximum (model )?(context|length)"
    r"|too (long|many tokens)|longer than the (model|maximum)",
    re.IGNORECASE,
)


class What(Enum):
    UNREACHABLE = "unreachable"
    """Nobody answers, or the connection was lost."""
    ILL = "ill"
    """It answers with an error of its own, with garbage, or not in time."""
    GARBAGE = "garbage"
    """It speaks something else."""
    BUSY = "busy"
    """It wants to be asked later."""
    KEY = "key"
    """It does not know us."""
    MISSING = "missing"
    """The model, or the path, is not there."""
    TOO_LONG = "too-long"
    UNSUPPORTED = "unsupported"
    """It understands, and will not do what is asked."""


class ServerError(Exception):
    """One thing that went wrong; its text is for people."""

    def __init__(self, what: What, said: str, retry_after_s: float | None = None) -> None:
        super().__init__(said)
        self.what = what
        self.retry_after_s = retry_after_s


def of_status(status: int, body: bytes, retry_after: str | None = None) -> ServerError:
    """A reply that is an error."""
    said = _message(body)
    what = _what(status, said)
    seconds = float(retry_after) if retry_after and retry_after.isdecimal() else None
    return ServerError(what, f"status {status}: {said}" if said else f"status {status}", seconds)


def of_error(error: object) -> ServerError:
    """An error in the middle of a stream."""
    said = f"an error in the stream: {_clip(_text_of(error))}"
    code = error.get("code") if isinstance(error, dict) else None
    what = _what(code, said) if isinstance(code, int) and code >= 400 else What.ILL
    return ServerError(what, said)


def _what(status: int, said: str) -> What:
    if status in (401, 403):
        return What.KEY
    if status in (404, 405):
        return What.MISSING
    if status == 429:
        return What.BUSY
    if status == 413 or (status in (400, 422) and _LENGTH.search(said)):
        return What.TOO_LONG
    # llama.cpp says 501 of what it was not started for.
    refuses = status == 501 or (400 <= status < 500 and status != 408)
    return What.UNSUPPORTED if refuses else What.ILL


def _message(body: bytes) -> str:
    try:
        return _clip(_text_of(msgspec.json.decode(body)))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        if body.lstrip().startswith(b"<"):
            return "a web page"
        return _clip(body[:MAX_SAID_CHARS].decode(errors="replace"))


def _text_of(error: object) -> str:
    """The message in any of the shapes that servers use."""
    if isinstance(error, dict):
        for key in ("error", "message", "detail"):
            if error.get(key):
                return _text_of(error[key])
    return str(error)


def _clip(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_SAID_CHARS else text[: MAX_SAID_CHARS - 1] + "…"
