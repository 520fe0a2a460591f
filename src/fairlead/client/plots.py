"""The plots of a page about runs, each as an SVG text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fairlead.client.axes import COLOURS, GREY, make_panels, share_limits, stroke, svg, time_axis
from fairlead.client.figures import Run, objective_text

MANY_INSTANCES = 6
"""Beyond this instances are drawn alike, with their mean on top."""


def over_time(runs: Sequence[Run]) -> str:
    """Arrivals and goodput over time, one panel a run on common axes."""
    drawn = [(place, label, s["curves"]) for place, (label, s) in enumerate(runs) if _curves(s)]
    figure, panels = make_panels(len(drawn), 1, height_in=1.9)
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
    share_limits(panels, "y", least=0.0)
    panels[-1].set_xlabel("time of arrival (s)")
    return svg(figure, "Arrivals and goodput over time")


def distributions(runs: Sequence[Run], key: str, name: str) -> str:
    """The share of requests that were at least this fast, a panel for each objective class."""
    names = list(dict.fromkeys(c for _, s in runs if _curves(s) for c in s["curves"]["classes"]))
    n_columns = min(len(names), 3)
    figure, panels = make_panels(-(-len(names) // n_columns), n_columns, height_in=2.7)
    for panel, class_name in zip(panels, names, strict=False):
        cdf_panel(panel, runs, class_name, key)
        panel.set_xlabel(f"{name} (s)")
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    for panel in panels[::n_columns]:
        panel.set_ylabel("share of requests")
    return svg(figure, f"Distribution of the {name}")


def cdf_panel(
    panel: Any,
    runs: Sequence[Run],
    class_name: str,
    key: str,
    strokes: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """One class's distributions, a line for each run, and what was promised. `strokes` are for
    runs whose lines mean something, and that are named elsewhere."""
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
            style = stroke(place) if strokes is None else strokes[place]
            panel.plot(values, shares, label=label, **style)
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
    time_axis(panel, largest)
    panel.set_ylim(0, 1.01)
    panel.set_yticks([0, 0.25, 0.5, 0.75, 0.9, 1.0], ["0", "25%", "50%", "75%", "90%", "100%"])
    panel.set_title(f"{class_name}  ({objective_text(promised)})", loc="left", fontsize=9)
    if panel.lines and len(runs) > 1 and strokes is None:
        panel.legend(loc="lower right")


def load_over_time(runs: Sequence[Run]) -> str | None:
    """Running and waiting requests of every instance, and KV memory in use; None where no run
    knows its instances."""
    drawn = [(label, s["curves"]["load"]) for label, s in runs if _curves(s) and _loads(s)]
    if not drawn:
        return None
    figure, panels = make_panels(len(drawn), 3, height_in=2.1)
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
        share_limits(panels[column::3], "y", least=0.0)
        panels[-3 + column].set_xlabel("time (s)")
    return svg(figure, "Load of every instance over time")


def _load_panel(panel: Any, load: Mapping[str, Any], key: str) -> None:
    many = len(load) > MANY_INSTANCES
    for place, (name, series) in enumerate(load.items()):
        if any(value is None for value in series[key]):
            continue
        style = {"color": GREY, "lw": 0.7, "alpha": 0.6} if many else {**stroke(place), "lw": 1.2}
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


def _steps(values: Sequence[float]) -> list[float]:
    return [*values, values[-1]] if values else [0.0]


def _curves(summary: Mapping[str, Any]) -> bool:
    return bool(summary.get("curves"))


def _loads(summary: Mapping[str, Any]) -> bool:
    return bool(summary["curves"].get("load"))
