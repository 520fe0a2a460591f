"""Looks after a server while it is well: whether it still is, and how much it has to do."""

from __future__ import annotations

import asyncio
import contextlib
import time

from fairlead.worker.opaque.api import Api
from fairlead.worker.opaque.asking import Asking
from fairlead.worker.opaque.circuit import Circuit
from fairlead.worker.opaque.errors import ServerError, What
from fairlead.worker.opaque.introduce import Facts
from fairlead.worker.opaque.load import Load
from fairlead.worker.opaque.metrics import read_load

LOOK_EVERY_S = 0.5
"""How often it is looked whether streams stand still."""
ASK_EVERY_S = 2.0
"""How often the server is asked."""
SURE_AFTER_S = 0.3
"""One that does not answer is asked once more after this, before it counts as down."""


class Watch:
    """See the module."""

    def __init__(
        self, api: Api, facts: Facts, asking: Asking, load: Load, circuit: Circuit
    ) -> None:
        self._api = api
        self._facts = facts
        self._asking = asking
        self._load = load
        self._circuit = circuit
        self._doubt = asyncio.Event()

    def doubt(self) -> None:
        """Ask now."""
        self._doubt.set()

    async def run(self) -> str:
        """Returns why the server is down, once it is."""
        asked_s = float("-inf")
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._doubt.wait()
            self._asking.look()
            if not self._doubt.is_set() and time.monotonic() - asked_s < ASK_EVERY_S:
                continue
            self._doubt.clear()
            if (why := await self._is_down()) is not None:
                return why
            if (why := self._blame()) is not None:
                return why
            await self._ask_load()
            asked_s = time.monotonic()

    async def _is_down(self) -> str | None:
        """None while it says that it is well."""
        for last in (False, True):
            try:
                await self._api.get(self._facts.health_path)
                return None
            except ServerError as trouble:
                # Where streams broke off as well there is nothing to be made sure of.
                gone = trouble.what is What.UNREACHABLE and any(
                    answer.broken for answer in self._asking.answers
                )
                if last or gone or trouble.what is What.KEY:
                    return str(trouble)
            await asyncio.sleep(SURE_AFTER_S)
        return None

    def _blame(self) -> str | None:
        """Streams that broke, though the server says that it is well: it is no use where that
        happens again and again."""
        broken = [answer.broken for answer in self._asking.answers if answer.broken]
        # All that broke in one moment broke for one reason.
        if broken and self._circuit.failed():
            # What a server says of a request may quote it, and this goes into logs.
            return f"it says that it is well, and fails: {broken[-1].partition(':')[0]}"
        self._asking.give_up_broken()
        return None

    async def _ask_load(self) -> None:
        if not self._facts.has_metrics:
            return
        try:
            page = await self._api.get("/metrics")
        except ServerError:
            return  # Old figures are better than none; whether it is down, others tell.
        running = self._asking.n_running
        waiting = len(self._asking.answers) - running
        self._load.hear(read_load(page.decode(errors="replace")), running, waiting)
