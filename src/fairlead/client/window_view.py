"""The picture of a fleet for a terminal: as wide and as high as there is room."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

SUM_S = 30.0
"""Goodput and attainment are those of so many seconds."""
SPARKS = "▁▂▃▄▅▆▇█"
WELL = ("ok", "new")
LEAST_ROWS = 3
COLOURS = {"slow": "yellow", "silent": "red", "draining": "dim", "new": "cyan"}

State = Mapping[str, Any]


def view(state: State, width: int = 80, height: int | None = None) -> RenderableType:
    """Everything; with a height, only as many instances as fit, those that need a look first."""
    classes, handoffs, tenants = _classes(state, width), _handoffs(state), _tenants(state)
    parts: list[RenderableType] = [_headline(state), classes[0]]
    used = 3 + classes[1]
    for part, lines in (handoffs, tenants):
        if part is not None:
            parts.append(part)
            used += lines
    room = None if height is None else max(height - used - 4, LEAST_ROWS)
    parts.append(_instances(state, width, room))
    return Group(*parts)


def rows(state: State, table: str) -> dict[str, dict[str, Any]]:
    """Rows of a table by name, their values by theirs."""
    columns = state["columns"][table]
    return {name: dict(zip(columns, values, strict=False)) for name, values in state[table].items()}


def lately(state: State, name: str, until: int | None = None) -> tuple[float, float]:
    """Requests a second that met and missed their objective, in the bins up to `until`."""
    n = max(round(SUM_S / state["bin_s"]), 1)
    bins = state["bins"][:until][-n:]
    counts = [counts.get(name, (0, 0)) for _, counts in bins]
    span_s = max(len(bins), 1) * state["bin_s"]
    return sum(met for met, _ in counts) / span_s, sum(missed for _, missed in counts) / span_s


def _headline(state: State) -> Text:
    totals, error = state["totals"], state["prediction"]["ttft"]
    name = state["about"].get("fleet") or "fleet"
    instances = rows(state, "instances").values()
    sick = sum(row["health"] not in WELL for row in instances)
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{name}  ", "bold")
    text.append("draining  " if totals["draining"] else "", "yellow")
    text.append(f"{len(instances)} instances")
    text.append(f", {sick} not well" if sick else "", "red")
    text.append(f" · {totals['under_way']:,} under way, {totals['queued']:,} queued")
    text.append(f" · {totals['requests_per_s']:,.3g} req/s")
    text.append(f"\n{totals['output_tokens_per_s']:,.0f} output tokens/s")
    text.append(
        f" · hand-offs {totals['handoffs_under_way']:,} now, {totals['handoffs_done']:,} done,"
        f" {totals['handoffs_failed']:,} failed"
    )
    if error["n"]:
        text.append(f" · TTFT ± {seconds(error['p50_s'])}")
    return text


def _classes(state: State, width: int) -> tuple[RenderableType, int]:
    table = Table(box=box.SIMPLE_HEAD, width=width, pad_edge=False, padding=(0, 1))
    table.add_column("class", no_wrap=True, overflow="ellipsis")
    for title in ("met", "goodput", "TTFT p50/p90", "TPOT p50/p90"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("10 min", ratio=1, no_wrap=True)
    for name, figures in state["classes"].items():
        met, missed = lately(state, name)
        times = [
            "/".join(seconds(figures.get(f"{field}_s", {}).get(p)) for p in ("p50", "p90"))
            for field in ("ttft", "tpot")
        ]
        share = percent(met / (met + missed)) if met + missed else "–"
        table.add_row(Text(name), share, f"{met:.3g}/s", *times, Text(_spark(state, name)))
    if not state["classes"]:
        table.add_row(Text("no request has ended yet", style="dim"))
    return table, 4 + max(len(state["classes"]), 1)


def _spark(state: State, name: str, most: int = 14) -> str:
    """Attainment over the bins: a character each for some of them, blank where nothing ended."""
    n = len(state["bins"])
    each = max(-(-n // most), 1)
    found = ""
    for start in range(0, n, each):
        counts = [c.get(name, (0, 0)) for _, c in state["bins"][start : start + each]]
        met, total = sum(a for a, _ in counts), sum(a + b for a, b in counts)
        found += SPARKS[min(int(met / total * len(SPARKS)), len(SPARKS) - 1)] if total else " "
    return found


def _instances(state: State, width: int, room: int | None) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, width=width, pad_edge=False, padding=(0, 1))
    table.add_column("instance", no_wrap=True, overflow="ellipsis", max_width=20)
    table.add_column("role", no_wrap=True)
    table.add_column("health", no_wrap=True)
    table.add_column("KV", ratio=1, no_wrap=True)
    for title in ("batch", "queue", "requests"):
        table.add_column(title, justify="right", no_wrap=True)
    found = rows(state, "instances")
    all_fit = room is None or len(found) <= room
    names = sorted(found, key=_natural) if all_fit else _worth_a_look(found)[: (room or 1) - 1]
    for name in names:
        row = found[name]
        health = Text(row["health"], style=COLOURS.get(row["health"], "green"))
        cells = (f"{row['batch']:,}", f"{row['queue']:,}", f"{row['requests']:,}")
        table.add_row(Text(name), row["role"], health, _bar(row["kv"]), *cells)
    if len(names) < len(found):
        table.add_row(Text(f"… {len(found) - len(names):,} more", style="dim"))
    if not found:
        table.add_row(Text("none has come yet", style="dim"))
    return table


def _worth_a_look(found: Mapping[str, Mapping[str, Any]]) -> Sequence[str]:
    """Those that are not well, then the fullest."""

    def key(name: str) -> tuple[bool, int, float]:
        row = found[name]
        return row["health"] in WELL, -row["queue"], -row["kv"]

    return sorted(found, key=key)


def _natural(name: str) -> list[tuple[int, str]]:
    """i2 comes before i10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _PARTS.split(name)]


_PARTS = re.compile(r"(\d+)")


def _bar(share: float, cells: int = 8) -> Text:
    full = round(share * cells)
    colour = "red" if share > 0.95 else "yellow" if share > 0.8 else "blue"
    text = Text(f"{share * 100:3.0f}% ")
    return text.append("█" * full, colour).append("░" * (cells - full))


def _handoffs(state: State) -> tuple[RenderableType | None, int]:
    moves = list(rows(state, "handoffs").items())
    if not moves:
        return None, 0
    lines = [
        f"{name}: {row['source']} → {row['target']} ({row['why']}), "
        f"{seconds(max(state['now_s'] - row['begun_s'], 0))}"
        for name, row in moves[:3]
    ]
    more = [f"… {len(moves) - 3} more"] if len(moves) > 3 else []
    text = Text("\n".join(["moving:", *lines, *more]), no_wrap=True, overflow="ellipsis")
    return text, 1 + len(lines) + len(more)


def _tenants(state: State) -> tuple[RenderableType | None, int]:
    tenants = sorted(state["tenants"].items(), key=lambda item: -item[1]["output_tokens"])[:5]
    if not tenants:
        return None, 0
    lines = [
        f"{name or 'no tenant'}: {row['met'] + row['missed']:,} requests, "
        f"{percent(row['met'] / max(row['met'] + row['missed'], 1))} met, "
        f"{row['output_tokens']:,} output tokens"
        for name, row in tenants
    ]
    text = Text("\n".join(["tenants:", *lines]), no_wrap=True, overflow="ellipsis")
    return text, 1 + len(lines)


def seconds(value: float | None) -> str:
    if value is None:
        return "–"
    if value < 0.0995:
        return f"{value * 1000:.{0 if value >= 0.00995 else 1}f} ms"
    return f"{value:.3g} s"


def percent(share: float) -> str:
    """99.96 % is not 100 %."""
    return f"{min(share * 100, 99.9):.1f}%" if share < 1 else "100%"
