"""One self-contained HTML page about a run, or several runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from fairlead.client.figures import Run, figures, objective_text
from fairlead.client.plots import (
    COLOURS,
    distributions,
    load_over_time,
    over_time,
    require_matplotlib,
)
from fairlead.client.table import notes

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; color: #1d2127;
  background: #fff; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .3rem; }
p { margin: .3rem 0; } .dim, caption, footer { color: #5d646e; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .22rem .9rem .22rem 0; text-align: right; border-bottom: 1px solid #e8eaed; }
th:first-child, td:first-child { text-align: left; white-space: pre; padding-right: 2rem; }
thead th { border-bottom: 2px solid #b5b9bf; vertical-align: bottom; }
td.best { font-weight: 650; } td.best::after { content: " \\2605"; color: #009E73; }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 2px;
  margin-right: .4em; }
.note { border-left: 3px solid #E69F00; padding-left: .7rem; }
svg { width: 100%; height: auto; display: block; }
footer { margin: 3rem 0 1rem; border-top: 1px solid #e8eaed; padding-top: .8rem;
  font-size: .85rem; }
code { background: #f4f5f7; padding: .1rem .35rem; border-radius: 3px; word-break: break-word; }
"""


LOAD_MISSING = (
    "<p>The server's <code>/metrics</code> told no load of instances, so it is not shown.</p>"
)


def page(runs: Sequence[Run], command: str, title: str = "Replay") -> str:
    """The page's HTML: figures on top, plots, and at its foot the command that made it. Raises
    `ConfigError` without matplotlib."""
    require_matplotlib()
    traces = list(dict.fromkeys(str(summary["trace"]) for _, summary in runs))
    parts = [
        f"<h1>{escape(title)}: {escape(', '.join(traces))}</h1>",
        f'<p class="dim">{_what_was_run(runs)}</p>',
        *(f'<p class="note">{escape(note)}</p>' for note in _notes(runs)),
        _figures_table(runs),
        *_plots(runs),
        _footer(runs, command),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}: {escape(', '.join(traces))}</title>"
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _what_was_run(runs: Sequence[Run]) -> str:
    lines = []
    for label, summary in runs:
        policy = ", ".join(f"{family} {name}" for family, name in summary["policy"].items())
        client = summary.get("client") or {}
        words = (
            summary["fleet"],
            policy,
            client.get("mode", ""),
            f"arrivals: {client['arrivals']}" if client.get("arrivals") else "",
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


def _footer(runs: Sequence[Run], command: str) -> str:
    versions = ", ".join(dict.fromkeys(str(summary["fairlead"]) for _, summary in runs))
    return f"<footer>Made by Fairlead {versions} with<br><code>{escape(command)}</code></footer>"
