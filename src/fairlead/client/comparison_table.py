"""A comparison as tables of 80 columns, one for each trace and rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fairlead.client.comparison import (
    Group,
    decimal_interval,
    groups,
    mark,
    marks_explained,
    mean,
    share_interval,
)
from fairlead.client.figures import count, seconds, share
from fairlead.client.table import WIDTH, notes


def print_comparison(comparison: Mapping[str, Any], console: Console | None = None) -> None:
    console = console or Console(width=WIDTH, highlight=False)
    for group in groups(comparison):
        n = group.cells[0]["summary"]["requests"]["total"]
        console.print(Text(f"{group.title} · {count(n)} requests", style="bold"))
        console.print(_table(group))
        for note in _notes(group):
            console.print(Text(f"note: {note}", style="yellow"))
    console.print(Text(marks_explained(len(comparison["seeds"])), style="dim"))


def _table(group: Group) -> Table:
    table = Table(box=box.SIMPLE_HEAD, width=WIDTH, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", width=1)
    table.add_column("", ratio=1, overflow="fold")
    for name in ("goodput/s", "met", "TTFT p99", "TPOT p99", "cached"):
        table.add_column(name, justify="right", no_wrap=True)
    for cell in group.cells:
        table.add_row(
            mark(cell),
            cell["label"],
            decimal_interval(cell, "goodput_rps"),
            share_interval(cell, "attainment"),
            seconds(mean(cell, "ttft_s_p99")),
            seconds(mean(cell, "tpot_s_p99")),
            share(mean(cell, "prefix_hit_ratio")),
            style="bold green" if cell["rank"] == 1 else None,
        )
    return table


def _notes(group: Group) -> list[str]:
    """Each note once, with those it is true of where it is not true of all."""
    by_note: dict[str, list[str]] = {}
    for cell in group.cells:
        for note in notes(cell["summary"]):
            by_note.setdefault(note, []).append(cell["label"])
    everybody = len(group.cells)
    return [
        note if len(labels) == everybody else f"{', '.join(labels)}: {note}"
        for note, labels in by_note.items()
        if len(labels) == everybody or "×" not in note
    ]
