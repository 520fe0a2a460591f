"""A batch becomes this gateway's: what it holds is counted, or where it stood is found again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from fairlead.gateway.batches.config import BatchesConfig
from fairlead.gateway.batches.done import Done
from fairlead.gateway.batches.reader import Census
from fairlead.gateway.batches.results import Results, TakenError
from fairlead.gateway.batches.run import Run
from fairlead.model import RequestError
from fairlead.store.batch import CANCELLING, EXPIRED, FAILED, OPEN, RUNNING, VALIDATING, Batch
from fairlead.store.batches import BatchStore

REST_S = 0.0005
"""After every few hundred lines that are counted, so that streams get their turn."""
_log = logging.getLogger("fairlead.gateway")


class Desk(Protocol):
    """As much of the service as is needed here."""

    config: BatchesConfig
    store: BatchStore
    folder: Path
    max_line_bytes: int
    owner: str
    host: str
    clock: Callable[[], float]

    async def ask(self, work: Callable[..., Any], *arguments: Any) -> Any: ...


async def begin(desk: Desk, batch: Batch, news: Callable[[], None]) -> Run | None:
    """The batch as a run; None where another gateway has it, or nothing of it can be run."""
    try:
        results = Results(*(desk.folder / id for id in batch.results))
    except TakenError:
        return None
    claimed: Batch | None = await desk.ask(
        desk.store.claim, batch, desk.owner, desk.host, desk.clock() + 15.0
    )
    if claimed is None:
        results.close()
        return None
    run = None
    try:
        run = await _open(desk, claimed, results, news)
    except FileNotFoundError as error:
        problem = _problem("unreadable_file", f"its input is gone: {error.strerror}", None)
        await desk.ask(_fail, desk, claimed, OPEN, desk.clock(), [problem])
    finally:
        if run is None:
            results.close(delete_empty=True)
    return run


async def _open(desk: Desk, batch: Batch, results: Results, news: Callable[[], None]) -> Run | None:
    input = desk.folder / batch.input_file
    if batch.status in (VALIDATING, CANCELLING) and not batch.total:
        counted = await _count(desk, batch, input)
        if counted is None:
            return None
        batch = counted
    done: Done = await asyncio.to_thread(results.recover, batch.checkpoint)
    is_late = desk.clock() >= batch.expires_s and batch.status != CANCELLING
    status = EXPIRED if is_late else CANCELLING if batch.status == CANCELLING else RUNNING
    tier, most = desk.config.service_tier, desk.max_line_bytes
    return Run(replace(batch, status=status), input, results, done, tier, most, news)


async def _count(desk: Desk, batch: Batch, input: Path) -> Batch | None:
    """The batch with its number of lines, begun; None where it fails, and why is written down."""
    problems: list[dict[str, Any]] = []
    n = 0
    try:
        n, repeated = await asyncio.to_thread(
            _census, input, desk.config.max_lines, desk.max_line_bytes
        )
        problems = [
            _problem("duplicate_custom_id", f"custom_id {name!r} was used before", line)
            for line, name in repeated
        ]
        if not n:
            problems = [_problem("empty_file", "the file has no lines", None)]
    except RequestError as error:
        problems = [_problem(error.code or "invalid", str(error), None)]
    except FileNotFoundError as error:
        problems = [_problem("unreadable_file", f"{error.strerror}", None)]
    now_s = desk.clock()
    was = (VALIDATING, CANCELLING)
    if problems:
        await desk.ask(_fail, desk, batch, was, now_s, problems)
        _log.info("batches.failed batch=%s code=%s", batch.id, problems[0]["code"])
        return None
    enter, values = desk.store.enter, {"total": n}
    entered = await desk.ask(enter, batch.id, desk.owner, (VALIDATING,), RUNNING, now_s, values)
    if not entered:  # It was cancelled meanwhile.
        await desk.ask(enter, batch.id, desk.owner, (CANCELLING,), CANCELLING, now_s, values)
    return replace(batch, total=n, status=RUNNING if entered else CANCELLING)


def _fail(
    desk: Desk, batch: Batch, was: tuple[str, ...], now_s: float, problems: list[dict[str, Any]]
) -> None:
    values = {"errors": problems, "owner": "", "lease_s": 0.0}
    desk.store.enter(batch.id, desk.owner, was, FAILED, now_s, values)


def _census(input: Path, max_lines: int, max_line_bytes: int) -> tuple[int, list[tuple[int, str]]]:
    with contextlib.closing(Census(input, max_lines, max_line_bytes)) as census:
        while census.step():
            time.sleep(REST_S)
        return census.n, census.repeated()


def _problem(code: str, message: str, line: int | None) -> dict[str, Any]:
    shown = None if line is None else line + 1
    return {"code": code, "message": message, "line": shown, "param": None}
