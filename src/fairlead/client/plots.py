"""The plots of a page, each as an SVG text. The only file that needs matplotlib."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fairlead.client.figures import Run, objective_text
from fairlead.model import ConfigError

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""
GREY = "#8a8f98"
DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 2, 1, 2)))
"""Runs differ in their stroke as well, for print."""
WIDTH_IN = 9.2
MANY_INSTANCES = 6
"""Beyond this instances are drawn alike, with their mean on top."""


def require_matplotlib() -> None:
    """Raises `ConfigError` where plots cannot be drawn."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "--html draws plots with matplotlib, which is not installed; "
            "install it with: pip install 'fairlead[plots]'"
        ) from error


def over_time(runs: Sequence[Run]) -> str:
    """Arrivals and goodput over time, one panel a run on common axes."""
    drawn = [(place, label, s["curves"]) for place, (label, s) in enumerate(runs) if _curves(s)]
    figure, panels = _panels(len(drawn), 1, height_in=1.9)
    for panel, (place, label, curve) in zip(panels, drawn, strict=True):
        t_s = [bin_ * curve["bin_s"] for bin_ in range(len(curve["arrivals_rps"]) + 1)]
        arrivals, goodput = _steps(curve["arrivals_rps"]), _steps(curve["goodput_rps"])
        panel.fill_between(t_s, arrivals, step="post", color=GREY, alpha=0.25, lw=0)
        panel.step(t_s, arrivals, where="post", color=GREY, lw=1, label="arrived")
        colour = COLOURS[place % len(COLOURS)]
        panel.fill_between(t_s, goodput, step="post", color=colour, alpha=0.25, lw=0)
        panel.step(t_s, goodput, where="post", color=colour, lw=1.6, label="met its objective")
        panel.set_title(label, loc="left", fontsize=10, fontweight="bold")
        panel.set_ylabel("requests/s")
        panel.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2, ncols=2)
    _share_limits(panels, "y", least=0.0)
    panels[-1].set_xlabel("time of arrival (s)")
    return _svg(figure, "Arrivals and goodput over time")


def distributions(runs: Sequence[Run], key: str, name: str) -> str:
    """The share of requests that were at least this fast, a panel for each objective class."""
    names = list(dict.fromkeys(c for _, s in runs if _curves(s) for c in s["curves"]["classes"]))
    n_columns = min(len(names), 3)
    figure, panels = _panels(-(-len(names) // n_columns), n_columns, height_in=2.7)
    for panel, class_name in zip(panels, names, strict=False):
        _cdf_panel(panel, runs, class_name, key)
        panel.set_xlabel(f"{name} (s)")
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    for panel in panels[::n_columns]:
        panel.set_ylabel("share of requests")
    return _svg(figure, f"Distribution of the {name}")


def _cdf_panel(panel: Any, runs: Sequence[Run], class_name: str, key: str) -> None:
    promised: dict[str, float | None] = {}
    largest = 0.0
    for place, (label, summary) in enumerate(runs):
        found = (summary.get("curves") or {}).get("classes", {}).get(class_name)
        if found is None:
            continue
        promised = found["objective"]
        values = found[key]["quantiles"]
        if values:
            largest = max(largest, values[-1])
            shares = [i / (len(values) - 1) for i in range(len(values))]
            panel.plot(values, shares, label=label, **_stroke(place))
    limit_s = promised.get("deadline_s" if key == "e2e_s" else key)
    if limit_s is not None:
        panel.axvline(limit_s, color="#444444", lw=1, ls=(0, (2, 2)))
        panel.annotate(
            "objective",
            (limit_s, 0.5),
            xytext=(-2, 0),
            textcoords="offset points",
            fontsize=7.5,
            color="#444444",
            ha="right",
            va="center",
            rotation=90,
        )
        largest = max(largest, limit_s)
    _time_axis(panel, largest)
    panel.set_ylim(0, 1.01)
    panel.set_yticks([0, 0.25, 0.5, 0.75, 0.9, 1.0], ["0", "25%", "50%", "75%", "90%", "100%"])
    panel.set_title(f"{class_name}  ({objective_text(promised)})", loc="left", fontsize=9)
    if panel.lines and len(runs) > 1:
        panel.legend(loc="lower right")


def _time_axis(panel: Any, largest_s: float) -> None:
    """Logarithmic where a linear axis would squeeze most of a curve into its left edge."""
    values = [x for line in panel.lines for x in line.get_xdata() if x > 0]
    if values and max(values) / min(values) > 30:
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panel.tick_params(axis="x", which="minor", labelbottom=False)
    else:
        panel.set_xlim(0, (largest_s or 1.0) * 1.05)


def load_over_time(runs: Sequence[Run]) -> str | None:
    """Running and waiting requests of every instance, and KV memory in use; None where no run
    knows its instances."""
    drawn = [(label, s["curves"]["load"]) for label, s in runs if _curves(s) and _loads(s)]
    if not drawn:
        return None
    figure, panels = _panels(len(drawn), 3, height_in=2.1)
    for row, (label, load) in enumerate(drawn):
        mine = panels[3 * row : 3 * row + 3]
        for panel, key in zip(mine, ("running", "waiting", "kv_fraction"), strict=True):
            _load_panel(panel, load, key)
        mine[0].set_title(label, loc="left", fontsize=10, fontweight="bold")
        mine[0].set_ylabel("running requests")
        mine[1].set_ylabel("waiting requests")
        mine[2].set_ylabel("KV memory in use")
        mine[2].yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    for column in range(3):
        _share_limits(panels[column::3], "y", least=0.0)
        panels[-3 + column].set_xlabel("time (s)")
    return _svg(figure, "Load of every instance over time")


def _load_panel(panel: Any, load: Mapping[str, Any], key: str) -> None:
    many = len(load) > MANY_INSTANCES
    for place, (name, series) in enumerate(load.items()):
        if any(value is None for value in series[key]):
            continue
        style = {"color": GREY, "lw": 0.7, "alpha": 0.6} if many else {**_stroke(place), "lw": 1.2}
        panel.plot(series["t_s"], series[key], label=None if many else name, **style)
    if many:
        t_s, mean = _mean(load, key)
        panel.plot(t_s, mean, color=COLOURS[0], lw=2, label=f"mean of {len(load)} instances")
    if key == "waiting" and panel.lines:
        panel.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2, ncols=3)


def _mean(load: Mapping[str, Any], key: str) -> tuple[list[float], list[float]]:
    by_time: dict[float, list[float]] = {}
    for series in load.values():
        for t_s, value in zip(series["t_s"], series[key], strict=True):
            if value is not None:
                by_time.setdefault(t_s, []).append(value)
    moments = sorted(by_time)
    return moments, [math.fsum(by_time[t]) / len(by_time[t]) for t in moments]


def _stroke(place: int) -> dict[str, Any]:
    dash = DASHES[place % len(DASHES)]
    return {"color": COLOURS[place % len(COLOURS)], "lw": 1.7, "ls": dash}


def _steps(values: Sequence[float]) -> list[float]:
    return [*values, values[-1]] if values else [0.0]


def _curves(summary: Mapping[str, Any]) -> bool:
    return bool(summary.get("curves"))


def _loads(summary: Mapping[str, Any]) -> bool:
    return bool(summary["curves"].get("load"))


def _share_limits(panels: Sequence[Any], axis: str, least: float) -> None:
    most = max(getattr(panel, f"get_{axis}lim")()[1] for panel in panels)
    for panel in panels:
        getattr(panel, f"set_{axis}lim")(least, most if most > least else least + 1)


def _panels(n_rows: int, n_columns: int, height_in: float) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, height_in * n_rows + 0.35), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, squeeze=False)
    panels = list(_flat(grid))
    for panel in panels:
        panel.grid(True, color="#e3e5e8", lw=0.7)
        panel.set_axisbelow(True)
        panel.tick_params(labelsize=8, colors="#444444")
        panel.xaxis.label.set_size(9)
        panel.yaxis.label.set_size(9)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            panel.spines[side].set_color("#b5b9bf")
    return figure, panels


def _flat(grid: Any) -> Iterator[Any]:
    for row in grid:
        yield from row


def _svg(figure: Any, title: str) -> str:
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
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    return svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)
