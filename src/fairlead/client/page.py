"""One self-contained HTML page about a run, or several runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from fairlead.client.axes import COLOURS, require_matplotlib
from fairlead.client.document import document
from fairlead.client.figures import Run, driver_facts, figures, objective_text
from fairlead.client.plots import distributions, load_over_time, over_time
from fairlead.client.table import notes

LOAD_MISSING = (
    "<p>The server's <code>/metrics</code> told no load of instances, so it is not shown.</p>"
)
"""A simulation always knows."""


def page(runs: Sequence[Run], command: str, title: str = "Replay") -> str:
    """The page's HTML: figures on top, plots, and at its foot the command that made it. Raises
    `ConfigError` without matplotlib."""
    require_matplotlib()
    traces = list(dict.fromkeys(str(summary["trace"]) for _, summary in runs))
    title = f"{title}: {', '.join(traces)}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="dim">{_what_was_run(runs)}</p>',
        *(f'<p class="note">{escape(note)}</p>' for note in _notes(runs)),
        _figures_table(runs),
        *_plots(runs),
    ]
    return document(title, parts, command, (str(summary["fairlead"]) for _, summary in runs))


def _what_was_run(runs: Sequence[Run]) -> str:
    lines = []
    for label, summary in runs:
        policy = ", ".join(f"{family} {name}" for family, name in summary["policy"].items())
        driver = driver_facts(summary)
        words = (
            summary["fleet"],
            policy,
            driver.get("mode", ""),
            f"arrivals: {driver['arrivals']}" if driver.get("arrivals") else "",
            f"seed {summary['seed']}",
        )
        prefix = f"<b>{escape(label)}</b>: " if len(runs) > 1 else ""
        lines.append(prefix + escape(" · ".join(word for word in words if word)))
    return "<br>".join(lines)


def _notes(runs: Sequence[Run]) -> list[str]:
    return [
        (f"{label}: " if len(runs) > 1 else "") + note
        for label, summary in runs
        for note in notes(summary)
    ]


def _figures_table(runs: Sequence[Run]) -> str:
    heads = "".join(
        f'<th><span class="swatch" style="background:{COLOURS[place % len(COLOURS)]}"></span>'
        f"{escape(label)}</th>"
        for place, (label, _) in enumerate(runs)
    )
    rows = []
    for figure in figures(runs):
        cells = "".join(
            f'<td class="best">{text}</td>' if place == figure.best else f"<td>{text}</td>"
            for place, text in enumerate(figure.texts)
        )
        rows.append(f"<tr><td>{escape(figure.name)}</td>{cells}</tr>")
    return (
        f"<table><thead><tr><th></th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        f"<p class='dim'>{_objectives(runs)}</p>"
    )


def _objectives(runs: Sequence[Run]) -> str:
    known: dict[str, Mapping[str, Any]] = {}
    for _, summary in runs:
        for name, group in (summary.get("curves") or {}).get("classes", {}).items():
            known.setdefault(name, group["objective"])
    texts = [f"<b>{escape(name)}</b>: {objective_text(times)}" for name, times in known.items()]
    tail = "Attainment counts over all requests that arrived; one that was rejected, failed or "
    return f"Objectives. {'; '.join(texts)}. {tail}was cancelled missed its objective."


def _plots(runs: Sequence[Run]) -> list[str]:
    if not any((summary.get("curves") or {}).get("classes") for _, summary in runs):
        return ["<p>There is nothing to plot: no request was sent, or the file has no curves.</p>"]
    parts = [
        "<h2>Arrivals and goodput over time</h2>",
        '<p class="dim">Of the requests that arrived at a time, those that went on to meet their '
        "objective.</p>",
        over_time(runs),
        "<h2>Time to first token</h2>",
        distributions(runs, "ttft_s", "time to first token"),
        "<h2>Time per output token</h2>",
        distributions(runs, "tpot_s", "time per output token"),
        "<h2>End to end</h2>",
        distributions(runs, "e2e_s", "time from arrival to last token"),
        "<h2>Load of each instance</h2>",
    ]
    load = load_over_time(runs)
    return [*parts, load or LOAD_MISSING]
