"""How a replay gets on, in one line of a terminal."""

from __future__ import annotations

import asyncio

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from fairlead.client.player import Pace, Player

SHOWN_AFTER_S = 2.0
REFRESH_S = 0.25


async def show_progress(player: Player, console: Console, pace: Pace, n_rows: int) -> None:
    """Shows a bar from the third second on; the line goes away at the end."""
    await asyncio.sleep(SHOWN_AFTER_S)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    by_time = pace.concurrency is not None and pace.duration_s is not None
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as bar:
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
