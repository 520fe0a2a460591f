"""A comparison, as `summary.json` holds it, in the order people read it: by trace, by rate, best
first. The common ground of its table and its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from fairlead.client.axes import COLOURS, DASHES
from fairlead.client.figures import NONE, decimal, share

Cell = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Group:
    """All variants against one trace at one rate."""

    trace: str
    """Its file's name without the ending."""
    rate_rps: float | None
    """What was asked for; None where the trace went at its own pace."""
    cells: Sequence[Cell]
    """Best first."""

    @property
    def title(self) -> str:
        rate = self.shown_rate
        pace = "its own pace" if self.rate_rps is None else ""
        return f"{self.trace} at {pace or f'{decimal(rate)} {self.unit}'}" + (
            f", {decimal(rate)} {self.unit}" if pace and rate else ""
        )

    @property
    def unit(self) -> str:
        """What the rate counts: of sessions whose calls wait for one another, their starts."""
        closed = self.cells[0]["summary"]["simulation"]["closed_loop"]
        return "sessions/s" if closed else "requests/s"

    @property
    def shown_rate(self) -> float | None:
        return self.rate_rps or offered_rps(self.cells[0])

    @property
    def spread(self) -> float:
        """By how much attainment differs between the variants: where it pays to look."""
        met = [mean(cell, "attainment") or 0.0 for cell in self.cells]
        return max(met) - min(met)


def groups(comparison: Mapping[str, Any]) -> list[Group]:
    """One for each trace and rate, in the order of the comparison."""
    found: dict[tuple[str, float | None], list[Cell]] = {}
    for cell in comparison["cells"]:
        found.setdefault((cell["trace"], cell["rate_rps"]), []).append(cell)
    return [
        Group(PurePath(trace).stem, rate, sorted(cells, key=lambda cell: int(cell["rank"])))
        for (trace, rate), cells in found.items()
    ]


def by_trace(all_groups: Sequence[Group]) -> dict[str, list[Group]]:
    found: dict[str, list[Group]] = {}
    for group in all_groups:
        found.setdefault(group.trace, []).append(group)
    return found


def most_telling(mine: Sequence[Group]) -> Group:
    """The one in which the variants differ most."""
    return max(mine, key=lambda group: group.spread)


def offered_rps(cell: Cell) -> float | None:
    value: float | None = cell["summary"]["simulation"]["offered_rps"]
    return value


def mean(cell: Cell, figure: str) -> float | None:
    value: float | None = cell["over_seeds"][figure]["mean"]
    return value


def half_width(cell: Cell, figure: str) -> float | None:
    value: float | None = cell["over_seeds"][figure]["half_width"]
    return value


def decimal_interval(cell: Cell, figure: str) -> str:
    """`142 ± 0.8`"""
    value, width = mean(cell, figure), half_width(cell, figure)
    if value is None or not width:
        return decimal(value)
    return f"{decimal(value)} ±{width:.2g}"


def share_interval(cell: Cell, figure: str) -> str:
    """`94.7% ±0.4`, in points of a percent."""
    value, width = mean(cell, figure), half_width(cell, figure)
    if value is None or not width:
        return share(value)
    return f"{share(value)} ±{100 * width:.1f}"


def mark(cell: Cell) -> str:
    """★ for the best of a group, ≈ for those that are like it."""
    return "★" if cell["rank"] == 1 else "≈" if cell["like_best"] else ""


def marks_explained(n_seeds: int) -> str:
    text = "★ the highest goodput (requests per second that met their objective), ≈ within 1% of it"
    if n_seeds > 1:
        text += (
            f" or not told apart from it by paired seeds. Means of {n_seeds} seeds ± 95% t interval"
        )
    return text + "."


def classes(cells: Sequence[Cell]) -> list[str]:
    return list(dict.fromkeys(name for cell in cells for name in cell["summary"]["classes"]))


def attainment_of(cell: Cell, kind: str, name: str) -> float | None:
    """Of a class or a tenant, as the first seed had it."""
    group = cell["summary"][kind].get(name)
    return None if group is None else group["attainment"]


def worst_tenants(cells: Sequence[Cell], most: int) -> list[str]:
    """Tenants that fared worst over all variants. One request more or less says nothing, so only
    those with ten or more count."""
    totals: dict[str, list[float]] = {}
    for cell in cells:
        for name, group in cell["summary"]["tenants"].items():
            if group["total"] >= 10:
                totals.setdefault(name, []).append(group["attainment"])
    return sorted(totals, key=lambda name: (sum(totals[name]) / len(totals[name]), name))[:most]


def strokes(comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How each variant is drawn wherever it appears. Of two axes the first gives the colour and
    the second the stroke, so that families of lines show."""
    axes = list(comparison["vary"].values())
    n_variants = 1 + max(int(cell["variant"]) for cell in comparison["cells"])
    n_last = len(axes[-1]) if len(axes) == 2 else 0
    two = 0 < n_last <= len(DASHES) and len(axes[0]) <= len(COLOURS) - 1
    found = []
    for place in range(n_variants):
        colour, dash = divmod(place, n_last) if two else (place, place // len(COLOURS))
        style = {"color": COLOURS[colour % len(COLOURS)], "ls": DASHES[dash % len(DASHES)]}
        found.append({**style, "lw": 1.7})
    return found


def percent_or_none(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.0f}%"
