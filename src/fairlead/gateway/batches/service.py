"""The batches that this gateway works on: claims them, feeds the fleet what it can take, and keeps
what comes back.

A line is done when its answer stands in a result file. kill -9 loses the answers of a tenth of a
second; those lines are run again, with the same seed, and count once in the ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fairlead.gateway.batches.begin import begin
from fairlead.gateway.batches.config import BatchesConfig
from fairlead.gateway.batches.pages import BatchPages
from fairlead.gateway.batches.run import Run
from fairlead.gateway.batches.sender import Sender
from fairlead.gateway.batches.uploads import sweep
from fairlead.model import RequestError
from fairlead.store.batch import (
    CANCELLED,
    CANCELLING,
    COMPLETED,
    EXPIRED,
    FINALIZING,
    RUNNING,
    VALIDATING,
    StoredFile,
)
from fairlead.store.batches import BatchStore
from fairlead.store.database import StoreError

FLUSH_S = 0.1
"""How often answers are written."""
CHECKPOINT_S = 1.0
"""How often the database hears how far a batch is, and we hear whether it was cancelled."""
CLAIM_S = 1.0
LEASE_S = 15.0
"""A gateway on another host that has said nothing for so long has died."""
BUSY_S, IDLE_S = 0.005, 0.05
"""How often the fleet is asked for room, with lines at hand and without."""
_log = logging.getLogger("fairlead.gateway")


class BatchService:
    """Works from `start` to `stop`."""

    def __init__(
        self,
        config: BatchesConfig,
        store: BatchStore,
        sender: Sender,
        host: str,
        max_line_bytes: int,
        body_timeout_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` is seconds since 1970; `host` is this machine's name."""
        self.config = config
        self.store = store
        self.folder = Path(config.folder)
        self.max_line_bytes = max_line_bytes
        self.owner = secrets.token_hex(8)
        self.host = host
        self.clock = clock
        self.pages = BatchPages(self, body_timeout_s, max_line_bytes)
        self._sender = sender
        self._runs: dict[str, Run] = {}
        self._news = asyncio.Event()
        self._look = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._writes: set[asyncio.Task[None]] = set()
        """Of results, under way."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self.draining = False

    async def ask(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Something that blocks, in the one thread that talks to the database and writes."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def look(self) -> None:
        """There is a new batch, or one was cancelled."""
        self._look.set()

    def drain(self) -> None:
        """No line is begun any more; those under way end."""
        self.draining = True

    async def start(self) -> None:
        self._tasks.append(asyncio.create_task(self._sweep()))
        for work in (self._keep_claiming, self._keep_feeding, self._keep_writing):
            self._tasks.append(asyncio.create_task(_forever(work)))

    async def _sweep(self) -> None:
        try:
            n = await self.ask(sweep, self.folder, self.store.known_files)
        except (StoreError, OSError) as error:
            _log.error("batches.sweep_failed error=%s", _first(error))
        else:
            if n:
                _log.info("batches.swept orphans=%d", n)

    async def stop(self) -> None:
        """What has come back is written, and others may go on with the rest."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*self._writes, return_exceptions=True)
        for run in list(self._runs.values()):
            run.closed = True
            with contextlib.suppress(StoreError, OSError):
                await self._write(run)
                await self._save(run)
                await self.ask(self.store.release, run.batch.id, self.owner)
            self._drop(run)
        self._thread.shutdown()
        self.store.close()

    def _drop(self, run: Run, delete_empty: bool = False) -> None:
        run.close()
        run.results.close(delete_empty)
        self._runs.pop(run.batch.id, None)

    # ---------------------------------------------------------------- claiming

    async def _keep_claiming(self) -> None:
        while True:
            if len(self._runs) < self.config.max_running and not self.draining:
                try:
                    await self._claim()
                except (StoreError, OSError) as error:
                    _log.error("batches.claim_failed error=%s", _first(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLAIM_S):
                    await self._look.wait()
            self._look.clear()

    async def _claim(self) -> None:
        for batch in await self.ask(self.store.claimable, self.clock(), self.host):
            if len(self._runs) >= self.config.max_running:
                return
            if batch.id in self._runs:
                continue
            run = await begin(self, batch, self._news.set)
            if run is not None:
                self._runs[batch.id] = run
                _log.info("batches.claimed batch=%s total=%d", batch.id, run.batch.total)

    # ---------------------------------------------------------------- feeding

    async def _keep_feeding(self) -> None:
        while True:
            for run in list(self._runs.values()):
                await self._bring(run)
            fed = await self._feed()
            self._news.clear()
            if not fed:
                # Not at every answer: thousands a second would each ask for room.
                await asyncio.sleep(BUSY_S)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(IDLE_S if self._runs else CLAIM_S):
                        await self._news.wait()

    async def _bring(self, run: Run) -> None:
        if run.wants_lines and not run.closed:
            try:
                raws = await asyncio.to_thread(run.reader.some)
            except (OSError, ValueError) as error:  # ValueError: it was closed meanwhile.
                _log.error("batches.read_failed batch=%s error=%s", run.batch.id, _first(error))
                return
            run.bring(raws)

    async def _feed(self) -> bool:
        """One line of each batch in turn, as long as the fleet has room."""
        fed = False
        if self.draining:
            return False
        for run in list(self._runs.values()):
            if run.closed or run.batch.status != RUNNING:
                continue
            if await self._feed_one(run):
                fed = True
                # Answers and other clients first.
                await asyncio.sleep(0)
        return fed

    async def _feed_one(self, run: Run) -> bool:
        n = sum(len(other.in_flight) for other in self._runs.values())
        if n >= self.config.max_in_flight or time.monotonic() < run.not_before_s:
            return False
        line = run.next()
        if line is None:
            return False
        # A model that nobody serves has no room, and its line an answer that says so.
        if self._sender.serves(line.model) and self._sender.spare(line.model) <= 0:
            return False
        try:
            caller = self._sender.door.known(run.batch.tenant, run.batch.key_id)
        except RequestError:
            run.not_before_s = time.monotonic() + CLAIM_S  # A tenant that is disabled.
            return False
        await run.send(self._sender, caller)
        return True

    # ---------------------------------------------------------------- writing

    async def _keep_writing(self) -> None:
        saved_s = time.monotonic()
        while True:
            await asyncio.sleep(FLUSH_S)
            due = time.monotonic() - saved_s >= CHECKPOINT_S
            for run in list(self._runs.values()):
                try:
                    await self._step(run, due)
                except (StoreError, OSError) as error:
                    _log.error(
                        "batches.write_failed batch=%s error=%s", run.batch.id, _first(error)
                    )
            saved_s = time.monotonic() if due else saved_s

    async def _step(self, run: Run, due: bool) -> None:
        if self.clock() >= run.batch.expires_s and run.batch.status == RUNNING:
            run.become(EXPIRED)
        if run.batch.status == EXPIRED:
            run.give_up(self._sender, *_EXPIRED)
        elif run.batch.status == CANCELLING:
            run.give_up(self._sender, *_CANCELLED)
        await self._write(run)
        if run.is_over:
            await self._finish(run)
        elif due:
            status = await self._save(run)
            if status is None:
                _log.error("batches.lost batch=%s: another gateway has it", run.batch.id)
                run.give_up(self._sender, *_CANCELLED)
                self._drop(run)
            elif status == CANCELLING:
                run.become(CANCELLING)

    async def _write(self, run: Run) -> None:
        """To its end, also where the caller is cancelled: a line that stands in the file and is not
        known to be done would be done again."""
        write = asyncio.ensure_future(self._write_out(run))
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)
        await asyncio.shield(write)

    async def _write_out(self, run: Run) -> None:
        written = run.take()
        if not written:
            return
        try:
            await self.ask(run.results.write, written.outputs, written.errors)
        except OSError:
            run.take_back(written)
            raise
        run.wrote(written)

    async def _save(self, run: Run) -> str | None:
        checkpoint = run.checkpoint()

        def save() -> str | None:
            # The database must not know of a line that the death of the machine can take away.
            run.results.keep()
            lease_s = self.clock() + LEASE_S
            return self.store.save(run.batch.id, self.owner, checkpoint, lease_s)

        status: str | None = await self.ask(save)
        return status

    async def _finish(self, run: Run) -> None:
        batch = run.batch
        status = await self._save(run)
        if status is None:
            self._drop(run)
            return
        if status == CANCELLING:
            run.become(CANCELLING)
        end = {EXPIRED: EXPIRED, CANCELLING: CANCELLED}.get(run.batch.status, COMPLETED)
        now_s = self.clock()
        sizes = (run.results.output_bytes, run.results.error_bytes)
        files = [
            StoredFile(id, batch.tenant, "batch_output", f"{batch.id}_{what}.jsonl", size, now_s)
            for id, what, size in zip(batch.results, ("output", "error"), sizes, strict=True)
            if size
        ]
        if end == COMPLETED:
            was = (VALIDATING, RUNNING)
            await self.ask(self.store.enter, batch.id, self.owner, was, FINALIZING, now_s)
        await self.ask(self.store.finish, batch.id, self.owner, end, now_s, files)
        self._drop(run, delete_empty=True)
        _log.info("batches.ended batch=%s status=%s", batch.id, end)


_EXPIRED = ("batch_expired", "the batch's completion window ended before this line was run")
_CANCELLED = ("batch_cancelled", "the batch was cancelled before this line was run")


async def _forever(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """A bug in it is told, and it begins anew: batches must not stand still without a word."""
    while True:
        try:
            await work()
        except Exception:
            _log.exception("batches.bug")
            await asyncio.sleep(CLAIM_S)


def _first(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
