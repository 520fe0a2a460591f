"""What all plots share: panels, strokes, and figures as SVG text. With the files of plots the only
ones that need matplotlib."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

from fairlead.model import ConfigError

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""
GREY = "#8a8f98"
DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 2, 1, 2)))
"""Runs differ in their stroke as well, for print."""
WIDTH_IN = 9.2


def require_matplotlib() -> None:
    """Raises `ConfigError` where plots cannot be drawn."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "pages draw plots with matplotlib, which is not installed; "
            "install it with: pip install 'fairlead[plots]'"
        ) from error


def stroke(place: int) -> dict[str, Any]:
    dash = DASHES[place % len(DASHES)]
    return {"color": COLOURS[place % len(COLOURS)], "lw": 1.7, "ls": dash}


def share_limits(alike: Sequence[Any], axis: str, least: float) -> None:
    """Panels beside or below each other can be compared."""
    most = max(getattr(panel, f"get_{axis}lim")()[1] for panel in alike)
    for panel in alike:
        getattr(panel, f"set_{axis}lim")(least, most if most > least else least + 1)


def time_axis(panel: Any, largest_s: float) -> None:
    """Logarithmic where a linear axis would squeeze most of a curve into its left edge."""
    values = [x for line in panel.lines for x in line.get_xdata() if x > 0]
    if values and max(values) / min(values) > 30:
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panel.tick_params(axis="x", which="minor", labelbottom=False)
    else:
        panel.set_xlim(0, (largest_s or 1.0) * 1.05)


def make_panels(n_rows: int, n_columns: int, height_in: float) -> tuple[Any, list[Any]]:
    """A figure of a page's width, and its panels row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, height_in * n_rows + 0.35), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, squeeze=False)
    found = list(_flat(grid))
    for panel in found:
        panel.grid(True, color="#e3e5e8", lw=0.7)
        panel.set_axisbelow(True)
        panel.tick_params(labelsize=8, colors="#444444")
        panel.xaxis.label.set_size(9)
        panel.yaxis.label.set_size(9)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            panel.spines[side].set_color("#b5b9bf")
    return figure, found


def _flat(grid: Any) -> Iterator[Any]:
    for row in grid:
        yield from row


def svg(figure: Any, title: str) -> str:
    """The figure as an `<svg>` element that scales with the page and names itself."""
    import matplotlib

    for panel in figure.axes:
        legend = panel.get_legend()
        if legend is not None:
            legend.get_frame().set_alpha(0.8)
            legend.get_frame().set_linewidth(0)
            for text in legend.get_texts():
                text.set_fontsize(8)
    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": title, "svg.fonttype": "path"}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    return text.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)
