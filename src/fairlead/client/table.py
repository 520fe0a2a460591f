"""A Summary as a table of 80 columns, or several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from fairlead.client.figures import (
    Run,
    count,
    decimal,
    driver_facts,
    figures,
    objective_text,
    seconds,
    share,
    value_at,
)

WIDTH = 80
POINTS = ("mean", "p50", "p90", "p99", "max")


def print_table(runs: Sequence[Run], console: Console | None = None) -> None:
    """Prints one run in full, or several side by side."""
    console = console or Console(width=WIDTH)
    console.print(one(*runs[0]) if len(runs) == 1 else side_by_side(runs))


def one(label: str, summary: Mapping[str, Any]) -> RenderableType:
    """A run: what became of its requests, its latencies, its classes."""
    parts: list[RenderableType] = [_headline(label, summary), _outcome(summary)]
    parts.append(_latencies(summary))
    parts.append(_classes(summary))
    parts += [Text(f"note: {note}", style="yellow") for note in notes(summary)]
    return Group(*parts)


def side_by_side(runs: Sequence[Run]) -> RenderableType:
    """Several runs, a column each; the best of a line stands out."""
    table = Table(box=box.SIMPLE_HEAD, width=WIDTH, pad_edge=False)
    table.add_column("", ratio=1, no_wrap=True)
    for label, _ in runs:
        table.add_column(label, justify="right", overflow="fold")
    for figure in figures(runs):
        cells = [
            f"[bold green]{text}[/]" if place == figure.best else text
            for place, text in enumerate(figure.texts)
        ]
        table.add_row(figure.name, *cells)
    extra = [
        Text(f"note: {label}: {note}", style="yellow")
        for label, summary in runs
        for note in notes(summary)
    ]
    return Group(table, *extra)


def _headline(label: str, summary: Mapping[str, Any]) -> RenderableType:
    policy = " + ".join(f"{name}" for name in summary["policy"].values())
    parts = [label, str(summary["fleet"]), policy, f"seed {summary['seed']}"]
    return Text(" · ".join(dict.fromkeys(part for part in parts if part)), style="bold")


def _outcome(summary: Mapping[str, Any]) -> RenderableType:
    requests = summary["requests"]
    table = Table(box=box.SIMPLE_HEAD, width=WIDTH, pad_edge=False)
    names = ("total", "finished", "rejected", "cancelled", "failed", "resumed")
    for name in ("requests", *names[1:]):
        table.add_column(name, justify="right")
    table.add_row(*(count(requests[name]) for name in names))
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column()
    met = share(summary["attainment"])
    grid.add_row("objective met", f"[bold]{met}[/] of all that arrived")
    grid.add_row(
        "goodput",
        f"[bold]{_rate(summary, 'goodput_rps')}[/] requests/s, "
        f"{_rate(summary, 'goodput_tokens_per_s')} tokens/s",
    )
    grid.add_row(
        "throughput",
        f"{_rate(summary, 'output_tokens_per_s')} output tokens/s, "
        f"{_rate(summary, 'prompt_tokens_per_s')} prompt tokens/s",
    )
    hits = summary["prefix_hit_ratio"]
    cached = "" if hits is None else f", {share(hits)} of prompt tokens cached"
    grid.add_row("duration", f"{seconds(summary['duration_s'])}{cached}")
    if summary.get("over_seeds"):
        grid.add_row(*_over_seeds(summary["over_seeds"]))
    return Group(table, grid)


def _over_seeds(found: Mapping[str, Any]) -> tuple[str, str]:
    """What the other seeds say; all other figures are of the first."""
    met, goodput = found["attainment"], found["goodput_rps"]
    if not met["half_width"] and not goodput["half_width"]:
        words = "the same in each"
    else:
        words = (
            f"[bold]{share(met['mean'])}[/] ±{100 * met['half_width']:.1f} met, "
            f"[bold]{decimal(goodput['mean'])}[/] ±{goodput['half_width']:.2g} requests/s "
            "(95% intervals)"
        )
    return f"over {len(found['seeds'])} seeds", words


def _rate(summary: Mapping[str, Any], key: str) -> str:
    value = value_at(summary, key)
    return "–" if value is None else f"{value:,.2f}" if value < 100 else f"{value:,.0f}"


def _latencies(summary: Mapping[str, Any]) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, width=WIDTH, pad_edge=False)
    table.add_column("latency", ratio=1, no_wrap=True)
    for point in POINTS:
        table.add_column(point, justify="right", no_wrap=True)
    rows = (
        ("time to first token", "ttft_s"),
        ("time per output token", "tpot_s"),
        ("gap between tokens", "itl_s"),
        ("end to end", "e2e_s"),
        ("in the queue", "queue_s"),
    )
    for name, key in rows:
        if value_at(summary, key, "mean") is not None:
            table.add_row(name, *(seconds(value_at(summary, key, point)) for point in POINTS))
    return table


def _classes(summary: Mapping[str, Any]) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, width=WIDTH, pad_edge=False)
    table.add_column("class", overflow="fold", min_width=12)
    table.add_column("objective", ratio=1, overflow="fold")
    for name in ("requests", "met", "TTFT p99", "TPOT p99"):
        table.add_column(name, justify="right", no_wrap=True)
    promised = (summary.get("curves") or {}).get("classes", {})
    for name, group in summary["classes"].items():
        times = promised.get(name, {}).get("objective")
        table.add_row(
            name,
            objective_text(times) if times is not None else "",
            count(group["total"]),
            share(group["attainment"]),
            seconds(group["ttft_s"]["p99"]),
            seconds(group["tpot_s"]["p99"]),
        )
    return table


LATE_S = 0.05
"""A client that sends later than this is part of what it measures."""


def notes(summary: Mapping[str, Any]) -> list[str]:
    """What a reader must know before trusting the figures."""
    found = []
    if summary.get("interrupted"):
        found.append("interrupted; the figures cover what had been sent by then")
    if summary.get("warmup_s"):
        found.append(
            f"the first {summary['warmup_s']:g} s ({summary['warmup_requests']} requests) were "
            "warm-up and are left out"
        )
    driver = driver_facts(summary)
    found += [f"{n:,} rows left out: {why}" for why, n in driver.get("skipped_rows", {}).items()]
    late_s = value_at(driver, "send_late_s", "p99")
    if late_s is not None and late_s > LATE_S:
        found.append(
            f"requests left up to {seconds(late_s)} (p99) after they were due, and the latencies "
            "include it: the client was too busy, or at its limit of requests in flight"
        )
    found += [f"{n:,} × {why}" for why, n in list(driver.get("reasons", {}).items())[:5]]
    positions = summary.get("positions")
    if positions is not None:
        found.append(_positions_note(positions, summary["requests"]["failed"]))
    return found


def _positions_note(positions: Mapping[str, Any], n_failed: int) -> str:
    if positions["ok"]:
        but = f"; {n_failed} failed before their end" if n_failed else ", and none is missing"
        return (
            f"positions: no token came twice or was skipped in {positions['streams']} streams{but}"
        )
    return (
        f"positions: {positions['repeated']} tokens repeated, {positions['skipped']} skipped, "
        f"{positions['unmarked_chunks']} chunks without a position; "
        + "; ".join(positions["faults"][:3])
    )
