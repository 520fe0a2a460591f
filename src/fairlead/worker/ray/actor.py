"""The actor: an ordinary worker, in a process that Ray started on one of its nodes."""

from __future__ import annotations

import asyncio
import os
import traceback
from collections.abc import AsyncIterator

from fairlead.model import FairleadError
from fairlead.worker.kept import CANNOT_RUN, End
from fairlead.worker.settings import WorkerSettings
from fairlead.worker.start import build_worker


class WorkerActor:
    """Lives once: `live` tells what the worker says, and last how it ended."""

    def __init__(self) -> None:
        # As in `fairlead worker`: set before torch is imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        self._lines: asyncio.Queue[str | End] = asyncio.Queue()
        self._drain = asyncio.Event()

    async def live(self, settings: WorkerSettings, token: str) -> AsyncIterator[str | End]:
        work = asyncio.create_task(self._work(settings, token))
        try:
            while not isinstance(said := await self._lines.get(), End):
                yield said
            yield said
        finally:
            work.cancel()

    async def drain(self) -> None:
        self._drain.set()

    async def _work(self, settings: WorkerSettings, token: str) -> None:
        try:
            end = await self._run(settings, token)
        except FairleadError as error:
            self._lines.put_nowait(f"error: {error}")
            end = End(CANNOT_RUN, f"died with status {CANNOT_RUN}")
        except Exception:
            for line in traceback.format_exc().splitlines():
                self._lines.put_nowait(line)
            end = End(1, "died with status 1")
        self._lines.put_nowait(end)

    async def _run(self, settings: WorkerSettings, token: str) -> End:
        loop = asyncio.get_running_loop()

        def tell(line: str) -> None:
            loop.call_soon_threadsafe(self._lines.put_nowait, line)

        # In a thread: loading a model takes minutes, in which we are to hear that we should end.
        worker = await asyncio.to_thread(build_worker, settings, token, tell)
        draining = asyncio.create_task(self._drain.wait())
        draining.add_done_callback(lambda _: worker.drain())
        dismissed = await worker.run()
        draining.cancel()
        if dismissed is None:
            return End(0)
        return End(1, f"was sent away by the gateway: {dismissed}")
