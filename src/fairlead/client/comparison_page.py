"""One self-contained HTML page about a comparison: who keeps the most objectives, at which rate,
at whose cost, and what the instances were doing meanwhile. It needs no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from fairlead.client.axes import require_matplotlib
from fairlead.client.comparison import (
    Cell,
    Group,
    attainment_of,
    by_trace,
    classes,
    decimal_interval,
    groups,
    mark,
    marks_explained,
    mean,
    most_telling,
    percent_or_none,
    share_interval,
    strokes,
    worst_tenants,
)
from fairlead.client.comparison_plots import Strokes, against_rate, latencies, legend
from fairlead.client.document import document
from fairlead.client.figures import count, seconds, share
from fairlead.client.heatmap import heatmap, largest
from fairlead.client.table import notes

MOST_TENANTS = 8
MAPS = (
    ("running", "sequences running"),
    ("waiting", "sequences waiting"),
    ("kv_fraction", "KV memory in use"),
    ("busy", "time spent in steps"),
)


def comparison_page(comparison: Mapping[str, Any], command: str) -> str:
    """The page's HTML. Raises `ConfigError` without matplotlib."""
    require_matplotlib()
    everything = groups(comparison)
    traces = by_trace(everything)
    style = strokes(comparison)
    first = sorted(everything[0].cells, key=lambda cell: int(cell["variant"]))
    key = legend([escape(cell["label"]) for cell in first], style)
    title = f"{_subject(comparison)}: {', '.join(traces)}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="dim">{escape(_what_was_run(comparison, everything))}</p>',
        _in_short(everything),
        f'<p class="dim">{marks_explained(len(comparison["seeds"]))}</p>',
        *_against_rate(traces, style, key),
    ]
    for trace, mine in traces.items():
        parts.append(f"<h2>{escape(trace)}</h2>")
        opened = most_telling(mine)
        parts += [_group(group, style, key, group is opened) for group in mine]
    return document(title, parts, command, [str(comparison["fairlead"])])


def _subject(comparison: Mapping[str, Any]) -> str:
    """`Routing and batching compared`."""
    words = [axis.rpartition(".")[2].replace("_", " ") for axis in comparison["vary"]]
    return f"{' and '.join(words).capitalize()} compared" if words else "Rates compared"


def _what_was_run(comparison: Mapping[str, Any], everything: Sequence[Group]) -> str:
    n_seeds = len(comparison["seeds"])
    n = len(everything[0].cells)
    n_requests = sum(
        cell["summary"]["requests"]["total"] for group in everything for cell in group.cells
    )
    words = [
        f"fleet {comparison['fleet']}",
        f"{n} variant{'s' * (n > 1)} at {len(everything)} load{'s' * (len(everything) > 1)}",
        f"{count(n_seeds * n_requests)} simulated requests",
        f"{n_seeds} seeds, means with 95% intervals"
        if n_seeds > 1
        else f"seed {comparison['seeds'][0]}",
    ]
    if comparison["warmup_s"]:
        words.append(f"the first {comparison['warmup_s']:g} s left out as warm-up")
    return " · ".join(words)


def _in_short(everything: Sequence[Group]) -> str:
    rows = []
    for group in everything:
        best, last = group.cells[0], group.cells[-1]
        alike = sum(mark(cell) == "≈" for cell in group.cells)
        others = f' <span class="dim">and {alike} like it</span>' if alike else ""
        rows.append(
            f"<tr><td>{escape(group.title)}</td><td class='text'><b>{escape(best['label'])}</b>"
            f"{others}</td><td>{share_interval(best, 'attainment')}</td>"
            f"<td class='text dim'>{escape(last['label'])}</td>"
            f"<td class='dim'>{share_interval(last, 'attainment')}</td></tr>"
        )
    return (
        "<table><thead><tr><th></th><th class='text'>highest goodput</th><th>met</th>"
        f"<th class='text'>lowest</th><th>met</th></tr></thead><tbody>{''.join(rows)}</tbody>"
        "</table>"
    )


def _against_rate(traces: Mapping[str, Sequence[Group]], style: Strokes, key: str) -> list[str]:
    several = {trace: mine for trace, mine in traces.items() if len(mine) > 1}
    if not several:
        return []
    return [
        "<h2>Goodput against rate</h2>",
        '<p class="dim">Dotted: as much as arrives. A run counts to the end of its last request, '
        "so short runs stay below it even with every objective met.</p>",
        key,
        against_rate(several, style),
    ]


# ---------------------------------------------------------------- one trace at one rate


def _group(group: Group, style: Strokes, key: str, opened: bool) -> str:
    best = group.cells[0]
    parts = [
        _notes(group),
        _figures(group),
        "<h3>Latencies against the objectives</h3>",
        key,
        latencies(group, style) if _plotted(group) else "<p>There is nothing to plot.</p>",
        "<h3>Who suffered</h3>",
        _who_suffered(group),
        _tenants(group),
        "<h3>What the instances were doing</h3>",
        _timelines(group),
    ]
    return (
        f"<details class='load'{' open' * opened}><summary><b>{escape(group.title)}</b> "
        f"<span class='dim'>best: {escape(best['label'])}, "
        f"{share_interval(best, 'attainment')} met</span></summary>{''.join(parts)}</details>"
    )


def _notes(group: Group) -> str:
    found = dict.fromkeys(
        note for cell in group.cells for note in notes(cell["summary"]) if "×" not in note
    )
    return "".join(f'<p class="note">{escape(note)}</p>' for note in found)


def _figures(group: Group) -> str:
    heads = "".join(
        f"<th>{head}</th>"
        for head in (
            "goodput,<br>requests/s",
            "objective<br>met",
            "TTFT<br>p50",
            "TTFT<br>p99",
            "TPOT<br>p50",
            "TPOT<br>p99",
            "prompt tokens<br>cached",
            "preempted",
            "rejected",
        )
    )
    most = max((mean(cell, "goodput_rps") or 0.0 for cell in group.cells), default=0.0)
    rows = "".join(_figures_row(cell, most) for cell in group.cells)
    return f"<table><thead><tr><th></th>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _figures_row(cell: Cell, most: float) -> str:
    summary = cell["summary"]
    star = mark(cell)
    cells = [
        _bar(decimal_interval(cell, "goodput_rps"), mean(cell, "goodput_rps"), most),
        _bar(share_interval(cell, "attainment"), mean(cell, "attainment"), 1.0),
        *(
            f"<td>{seconds(mean(cell, key))}</td>"
            for key in ("ttft_s_p50", "ttft_s_p99", "tpot_s_p50", "tpot_s_p99")
        ),
        _bar(share(mean(cell, "prefix_hit_ratio")), mean(cell, "prefix_hit_ratio"), 1.0),
        f"<td>{count(summary['preemptions'])}</td>",
        f"<td>{count(summary['requests']['rejected'])}</td>",
    ]
    name = f"<b>{escape(cell['label'])}</b>" if star == "★" else escape(cell["label"])
    return f"<tr><td>{name} <span class='star'>{star}</span></td>{''.join(cells)}</tr>"


def _bar(text: str, value: float | None, most: float) -> str:
    """A figure above a bar as long as it is large."""
    part = 100 * (value or 0.0) / most if most > 0 else 0.0
    return f'<td class="bar" style="--part:{part:.1f}%">{escape(text)}</td>'


def _plotted(group: Group) -> bool:
    return any((cell["summary"].get("curves") or {}).get("classes") for cell in group.cells)


def _who_suffered(group: Group) -> str:
    names = classes(group.cells)
    heads = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = "".join(
        f"<tr><td>{escape(cell['label'])}</td>"
        + "".join(_heat(attainment_of(cell, "classes", name)) for name in names)
        + "</tr>"
        for cell in group.cells
    )
    totals = group.cells[0]["summary"]["classes"]
    sizes = ", ".join(f"{name} {count(totals[name]['total'])}" for name in names if name in totals)
    return (
        "<p class='dim'>Share of each class that met its objective; the redder, the more missed. "
        f"Requests: {escape(sizes)}.</p>"
        f"<table class='heat'><thead><tr><th></th>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _tenants(group: Group) -> str:
    """Those tenants that fared worst, under each variant."""
    worst = worst_tenants(group.cells, MOST_TENANTS)
    if len(group.cells[0]["summary"]["tenants"]) < 2 or not worst:
        return ""
    heads = "".join(f"<th>{escape(name)}</th>" for name in worst)
    rows = "".join(
        f"<tr><td>{escape(cell['label'])}</td>"
        + "".join(_heat(attainment_of(cell, "tenants", name)) for name in worst)
        + "</tr>"
        for cell in group.cells
    )
    n = len(group.cells[0]["summary"]["tenants"])
    return (
        f"<p class='dim'>Of {count(n)} tenants, those that fared worst over all variants:</p>"
        f"<table class='heat'><thead><tr><th></th>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _heat(value: float | None) -> str:
    missed = 0.0 if value is None else 1 - value
    return (
        f'<td style="background:rgba(213,94,0,{0.75 * missed:.3f})">{percent_or_none(value)}</td>'
    )


def _timelines(group: Group) -> str:
    """One variant open, the others a click away."""
    loads = [(cell, (cell["summary"].get("curves") or {}).get("load")) for cell in group.cells]
    known = [(cell, load) for cell, load in loads if load]
    if not known:
        return "<p>No load of instances was recorded.</p>"
    end_s = max(max(s["t_s"], default=0.0) for _, load in known for s in load.values())
    most = {key: largest([load for _, load in known], key) for key, _ in MAPS}
    most |= dict.fromkeys(("kv_fraction", "busy"), 1.0)
    parts = []
    for cell, load in known:
        maps = "".join(heatmap(load, key, name, most[key], end_s) for key, name in MAPS)
        parts.append(
            f"<details name='{escape(group.title)}'{' open' * (cell['rank'] == 1)}>"
            f"<summary>{escape(cell['label'])}</summary><div class='maps'>{maps}</div></details>"
        )
    return (
        "<p class='dim'>A row an instance, time to the right; the same shades for all variants. "
        "Choose another variant to see it instead.</p>" + "".join(parts)
    )
