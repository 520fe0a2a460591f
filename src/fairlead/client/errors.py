"""What servers and networks complain of, in one line each."""

from __future__ import annotations

import msgspec


def message_of(error: object) -> str:
    """The message of an error object in any of the shapes that servers use."""
    if isinstance(error, dict):
        if isinstance(error.get("error"), dict | str):
            return message_of(error["error"])
        for key in ("message", "detail", "error"):
            if error.get(key):
                return str(error[key])
    return str(error)


def message_of_body(body: bytes) -> str:
    """The message of a reply that is an error; the start of the reply where it is no JSON."""
    try:
        return message_of(msgspec.json.decode(body))
    except msgspec.MsgspecError:
        return body[:200].decode(errors="replace").strip()


def connection_error(error: BaseException) -> str:
    """The plain reason behind a failed connection."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    cause = getattr(error, "os_error", None) or error
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
