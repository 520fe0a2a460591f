"""How a run gets on, in one line of a terminal."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from fairlead.client.player import Pace, Player

SHOWN_AFTER_S = 2.0
REFRESH_S = 0.25


async def show_progress(player: Player, console: Console, pace: Pace, n_rows: int) -> None:
    """Shows a bar from the third second on; the line goes away at the end."""
    await asyncio.sleep(SHOWN_AFTER_S)
    by_time = pace.concurrency is not None and pace.duration_s is not None
    with _progress(console) as bar:
        task = bar.add_task("", total=pace.duration_s if by_time else n_rows)
        while True:
            tally = player.tally
            done = player.clock() if by_time else len(tally.records)
            text = (
                f"{len(tally.records)} ended, {tally.in_flight} under way, {tally.n_tokens} tokens"
            )
            bar.update(task, completed=done, description=text)
            bar.refresh()
            await asyncio.sleep(REFRESH_S)


class Bar:
    """A bar for work that blocks: shows what it is told, from the third second on, and goes away
    at the end. Where there is no terminal it shows nothing."""

    def __init__(self, console: Console, total: float | None, quiet: bool = False) -> None:
        """`total` is in requests or in seconds; None where nobody knows yet."""
        self._progress = _progress(console) if console.is_terminal and not quiet else None
        self._total = total
        self._begun_s = self._shown_s = time.monotonic()
        self._task: TaskID | None = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.stop()

    def requests(self, n: int) -> None:
        self._show(n, f"{n:,} requests")

    def items(self, n: int, done: int, of: int) -> None:
        self._show(n, f"{done} of {of} done, {n:,} requests")

    def lines(self, done: int, total: int, said: str) -> None:
        """`said` goes before it; what the total is may turn out late."""
        if total != self._total:
            self._total = total
            if self._progress is not None and self._task is not None:
                self._progress.update(self._task, total=total)
        self._show(done, f"{said}, {done:,} of {total:,} lines")

    def moved(self, n: int, said: str) -> None:
        self._show(n, f"{said}, {n / 2**20:,.0f} MiB")

    def seconds(self, spent_s: float, n_waves: int) -> None:
        self._show(spent_s, f"{n_waves:,} waves")

    def _show(self, n: float, text: str) -> None:
        now_s = time.monotonic()
        early = now_s - self._begun_s < SHOWN_AFTER_S or now_s - self._shown_s < REFRESH_S
        if self._progress is None or early:
            return
        self._shown_s = now_s
        if self._task is None:
            self._progress.start()
            self._task = self._progress.add_task("", total=self._total)
        self._progress.update(self._task, completed=n, description=text)
        self._progress.refresh()


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        auto_refresh=False,
    )
