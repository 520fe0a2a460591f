"""The plots of a comparison, each as an SVG text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fairlead.client.axes import make_panels, share_limits, svg
from fairlead.client.comparison import Group, half_width, mean
from fairlead.client.figures import Run
from fairlead.client.plots import cdf_panel

Strokes = Sequence[Mapping[str, Any]]
TIMES = (
    ("ttft_s", "ttft_s", "time to first token"),
    ("tpot_s", "tpot_s", "time per output token"),
    ("e2e_s", "deadline_s", "time end to end"),
)
"""Key of a distribution, of the objective that bounds it, and its name."""


def against_rate(traces: Mapping[str, Sequence[Group]], strokes: Strokes) -> str:
    """Goodput above attainment, against the request rate: a column for each trace that was played
    at several."""
    figure, panels = make_panels(2, len(traces), height_in=2.4)
    n = len(traces)
    for column, (trace, groups) in enumerate(traces.items()):
        top, bottom = panels[column], panels[n + column]
        rates = [group.shown_rate or 0.0 for group in groups]
        if groups[0].unit == "requests/s":
            top.plot([0, max(rates)], [0, max(rates)], color="#b5b9bf", lw=1, ls=(0, (1, 2)))
        for variant, style in enumerate(strokes):
            cells = [_of(group, variant) for group in groups]
            _with_band(top, rates, cells, "goodput_rps", style)
            _with_band(bottom, rates, cells, "attainment", style)
        top.set_title(trace, loc="left", fontsize=10, fontweight="bold")
        for panel in (top, bottom):
            panel.set_xlim(0.9 * min(rates), 1.03 * max(rates))
        most = max(mean(cell, "goodput_rps") or 0.0 for group in groups for cell in group.cells)
        top.set_ylim(0, 1.2 * most if most > 0 else 1.0)
        bottom.set_ylim(0, 1.02)
        bottom.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
        bottom.set_xlabel(f"{groups[0].unit} that arrive")
    panels[0].set_ylabel("requests/s that met\ntheir objective")
    panels[n].set_ylabel("share that met\ntheir objective")
    return svg(figure, "Goodput and attainment against the request rate")


def _with_band(
    panel: Any,
    rates: Sequence[float],
    cells: Sequence[Mapping[str, Any]],
    key: str,
    style: Mapping[str, Any],
) -> None:
    values = [mean(cell, key) or 0.0 for cell in cells]
    widths = [half_width(cell, key) or 0.0 for cell in cells]
    panel.plot(rates, values, marker="o", ms=3.5, **style)
    if any(widths):
        low = [value - width for value, width in zip(values, widths, strict=True)]
        high = [value + width for value, width in zip(values, widths, strict=True)]
        panel.fill_between(rates, low, high, color=style["color"], alpha=0.15, lw=0)


def _of(group: Group, variant: int) -> Mapping[str, Any]:
    return next(cell for cell in group.cells if cell["variant"] == variant)


def latencies(group: Group, strokes: Strokes) -> str:
    """Distributions of what each class was promised; of what has no promise, the time end to
    end."""
    cells = sorted(group.cells, key=lambda cell: int(cell["variant"]))
    runs: list[Run] = [(cell["label"], cell["summary"]) for cell in cells]
    wanted = _promised(runs)
    n_columns = min(len(wanted), 2)
    figure, panels = make_panels(-(-len(wanted) // n_columns), n_columns, height_in=2.4)
    mine = [strokes[cell["variant"]] for cell in cells]
    for panel, (class_name, key, name) in zip(panels, wanted, strict=False):
        cdf_panel(panel, runs, class_name, key, mine)
        panel.set_xlabel(f"{name} (s)")
    for panel in panels[len(wanted) :]:
        panel.set_visible(False)
    for panel in panels[::n_columns]:
        panel.set_ylabel("share of requests")
    share_limits(panels, "y", least=0.0)
    return svg(figure, f"Latencies of {group.title}")


def _promised(runs: Sequence[Run]) -> list[tuple[str, str, str]]:
    classes: dict[str, Mapping[str, Any]] = {}
    for _, summary in runs:
        for name, found in ((summary.get("curves") or {}).get("classes") or {}).items():
            classes.setdefault(name, found["objective"])
    wanted = []
    for name, objective in classes.items():
        kept = [(name, key, text) for key, bound, text in TIMES if objective[bound] is not None]
        wanted += kept or [(name, TIMES[-1][0], TIMES[-1][2])]
    return wanted


def legend(labels: Sequence[str], strokes: Strokes) -> str:
    """The variants and how they are drawn, as HTML: one legend for all plots."""
    dashes = {"-": ""}
    items = []
    for label, style in zip(labels, strokes, strict=True):
        pattern = style["ls"]
        dash = dashes.get(pattern, "") if isinstance(pattern, str) else _dash(pattern[1])
        line = (
            f'<svg class="key" viewBox="0 0 34 8"><line x1="1" y1="4" x2="33" y2="4" '
            f'stroke="{style["color"]}" stroke-width="2.4" stroke-dasharray="{dash}"/></svg>'
        )
        items.append(f"<span>{line}{label}</span>")
    return f'<p class="legend">{"".join(items)}</p>'


def _dash(pattern: Sequence[float]) -> str:
    return " ".join(f"{1.7 * length:g}" for length in pattern)
