"""Where every call comes in: who is it, may it come in now, and what did it come to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

from fairlead.gateway.asked import Asked
from fairlead.gateway.driver import Outlet
from fairlead.gateway.tenants.caller import ANYBODY, Caller
from fairlead.model import RequestError


class Meter(Protocol):
    """Counts one call."""

    def watch(self, outlet: Outlet) -> Outlet:
        """The same outlet, with every token that goes there counted."""
        ...

    def end(self, outcome: str, cached_tokens: int) -> None:
        """Once, when the call is over. `outcome` is one of those in `store.usage`."""
        ...


class Door(Protocol):
    async def start(self) -> None: ...
    async def stop(self) -> None:
        """After the last call has ended."""
        ...

    async def caller(self, key: bytes | None) -> Caller:
        """Whose key that is. Raises `RequestError` (401, 403)."""
        ...

    def known(self, tenant: str, key_id: str) -> Caller:
        """Who made a batch with that key, which need not be valid any more. Raises `RequestError`
        (403)."""
        ...

    def check(self, caller: Caller) -> None:
        """Counts a call that has begun to arrive; raises `RequestError` (429) where that is one too
        many. Before its body is read: nobody over their limit costs more than this."""
        ...

    def open(self, caller: Caller, asked: Asked, id: str = "") -> Meter | None:
        """The call is about to be served; raises `RequestError` (429, 503) where it cannot be now.
        None: nobody wants to know what it comes to. Calls of one `id` count as one; without it a
        call is like no other."""
        ...

    async def usage(self, caller: Caller, tenant: str | None, days: int) -> list[dict[str, Any]]:
        """What was used, by tenant, model and day. Raises `RequestError` (403, 404)."""
        ...


class OpenDoor:
    """No tenants but those of the fleet file's `api_keys`; nothing is limited or counted."""

    def __init__(self, tenant_of_key: Mapping[str, str]) -> None:
        self._callers = {_digest(key): Caller(name) for key, name in tenant_of_key.items()}

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def caller(self, key: bytes | None) -> Caller:
        if not self._callers:
            return ANYBODY
        # Looked up by digest: how long that takes says nothing about any key.
        caller = self._callers.get(hashlib.sha256(key or b"").digest())
        if caller is None or key is None:
            raise no_such_key()
        return caller

    def known(self, tenant: str, key_id: str) -> Caller:
        return Caller(tenant)

    def check(self, caller: Caller) -> None:
        pass

    def open(self, caller: Caller, asked: Asked, id: str = "") -> Meter | None:
        return None

    async def usage(self, caller: Caller, tenant: str | None, days: int) -> list[dict[str, Any]]:
        raise RequestError(
            "nothing is counted here: the fleet file has no [tenants] table",
            status=404,
            code="no_tenants",
        )


def no_such_key(
    message: str = "no valid API key; send the header Authorization: Bearer YOUR_KEY",
) -> RequestError:
    return RequestError(message, status=401, code="invalid_api_key")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
