"""A description of a trace in a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fairlead.client.figures import count, seconds, share

WIDTH = 80
BARS = "▁▂▃▄▅▆▇█"
POINTS = ("mean", "p50", "p90", "p99", "max")
SHOWN_TENANTS = 5


def description_table(
    title: str, found: Mapping[str, Any], notes: Mapping[str, str]
) -> RenderableType:
    """What was found, and what the file says of itself."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _lines(found):
        table.add_row(name, Text(text))
    for why, n in found.get("skipped", {}).items():
        table.add_row("left out", Text(f"{n:,} rows: {why}", style="yellow"))
    for name, text in notes.items():
        table.add_row(name, Text(text), style="dim")
    return Group(Text(title, style="bold"), _lengths(found), table)


def _lengths(found: Mapping[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, width=WIDTH, pad_edge=False)
    table.add_column("tokens", no_wrap=True)
    table.add_column("by doublings", ratio=1, no_wrap=True)
    for point in POINTS:
        table.add_column(point, justify="right", no_wrap=True)
    for name in ("prompt_tokens", "output_tokens"):
        figures = found[name]
        points = [count(round(figures[point])) for point in POINTS]
        table.add_row(name.removesuffix("_tokens"), _doublings(figures["histogram"]), *points)
    return table


def _doublings(histogram: Mapping[str, int]) -> str:
    edges = [int(edge) for edge in histogram]
    if not edges:
        return ""
    steps = range(min(edges).bit_length() - 1, max(edges).bit_length())
    bars = bars_of([histogram.get(str(1 << step), 0) for step in steps])
    return f"{_short(min(edges))} {bars} {_short(2 * max(edges))}"


def _lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and text of each line below the lengths."""
    yield "requests", count(found["rows"])
    if (arrivals := found["arrivals"]) is not None:
        yield from _arrivals(arrivals)
    else:
        yield "arrivals", "none in the file: they must be chosen (--rate)"
    if (sessions := found["sessions"]) is not None:
        yield from _sessions(sessions)
    for name in ("tenants", "models"):
        if (shares := found[name]) is not None:
            yield name, _shares(shares)
    if (prefixes := found["prefixes"]) is not None:
        yield (
            "prefixes",
            f"{share(prefixes['reusable_blocks'])} of {count(prefixes['blocks'])} blocks of "
            f"{prefixes['block_tokens']} tokens were there before: "
            f"{share(prefixes['reusable_tokens'])} of all prompt tokens",
        )


def _arrivals(arrivals: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if arrivals["rate_rps"] is None:
        yield "arrivals", "all at once"
        return
    cv = arrivals["gap_cv"]
    spread = "" if cv is None else f", gaps with a CV of {cv:.2f}"
    yield "arrivals", f"{arrivals['rate_rps']:.4g}/s over {_span(arrivals['span_s'])}{spread}"
    minute = arrivals["busiest_minute"]
    yield (
        "busiest",
        f"second {arrivals['busiest_second']:.1f} times the mean rate"
        + ("" if minute is None else f", minute {minute:.2f} times"),
    )
    rates = arrivals["rate_over_time_rps"]
    yield "over time", f"{bars_of(rates)}\n{min(rates):.4g} to {max(rates):.4g}/s"


def _sessions(sessions: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    turns, gaps = sessions["turns"], sessions["gap_s"]
    agents = f", {count(sessions['agents'])} agents" if sessions["agents"] else ""
    yield (
        "sessions",
        f"{count(sessions['total'])}{agents}; calls in each: mean {turns['mean']:.1f}, "
        f"p50 {turns['p50']}, p90 {turns['p90']}, max {turns['max']}",
    )
    if gaps is not None:
        points = ", ".join(f"{point} {seconds(gaps[point])}" for point in POINTS)
        yield "gaps", f"between calls: {points}"


def _shares(shares: Mapping[str, Any]) -> str:
    largest = list(shares["largest"].items())[:SHOWN_TENANTS]
    text = ", ".join(f"{name} {share(part)}" for name, part in largest)
    return f"{count(shares['total'])}; most requests: {text}"


def bars_of(values: Sequence[float]) -> str:
    """One bar a value, the highest full; nothing at all is a blank."""
    most = max(values, default=0)
    if most <= 0:
        return " " * len(values)
    return "".join(
        " " if value <= 0 else BARS[min(int(value / most * len(BARS)), len(BARS) - 1)]
        for value in values
    )


def _short(n: int) -> str:
    for size, letter in ((1 << 20, "M"), (1 << 10, "k")):
        if n >= size:
            return f"{n // size}{letter}"
    return str(n)


def _span(span_s: float) -> str:
    for size_s, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if span_s >= 2 * size_s:
            return f"{span_s / size_s:.1f} {unit}"
    return f"{span_s:.3g} s"
