"""Server-sent events that bear their type twice, as line and as field."""

from __future__ import annotations

from typing import Any

from fairlead.gateway.render import quote


def event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), quote({"type": kind, **fields}))
