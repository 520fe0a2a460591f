"""Web pages of other origins: which may call, and what their browsers ask before they do."""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.gateway.exchange import Exchange

METHODS = b"GET, POST, DELETE"
REMEMBERED_S = 600


class Cors:
    """Lets pages of some origins in; `*` is all of them."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)

    def allow(self, exchange: Exchange) -> None:
        """Every reply to a page that is let in says so."""
        origin = self._origin(exchange)
        if origin is not None:
            exchange.extra_headers += [
                (b"access-control-allow-origin", origin),
                (b"vary", b"origin"),
            ]

    async def preflight(self, exchange: Exchange) -> None:
        """What a browser asks before it sends a call of another site's page."""
        headers = []
        if self._origin(exchange) is not None:
            asked = exchange.header(b"access-control-request-headers")
            headers = [
                (b"access-control-allow-methods", METHODS),
                (b"access-control-allow-headers", asked or b"authorization, content-type"),
                (b"access-control-max-age", b"%d" % REMEMBERED_S),
            ]
        exchange.reply(204, headers, b"")

    def _origin(self, exchange: Exchange) -> bytes | None:
        """The page's, where it is let in."""
        origin = exchange.header(b"origin") if self._origins else None
        return origin if origin in self._origins or b"*" in self._origins else None
