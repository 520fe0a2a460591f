"""A grid of simulations: every trace at every rate under every variant of a fleet, over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, TypeVar

from fairlead import __version__
from fairlead.fleet.config import FleetConfig
from fairlead.model import ConfigError
from fairlead.planner.cell import Cell, run_cell
from fairlead.planner.interval import told_apart
from fairlead.planner.over_seeds import over_seeds
from fairlead.planner.pool import Progress, run_all
from fairlead.planner.source import TraceSource
from fairlead.policies import registry
from fairlead.workload.shape import Shape
from fairlead.workload.summary import Summary

ALIKE = 0.01
"""Goodput within one percent is no difference: a single late request moves the end of a run, and so
its rate, as much."""
_T = TypeVar("_T")


# ---------------------------------------------------------------- what is varied


@dataclass(frozen=True, slots=True)
class Axis:
    """One key of the fleet file, and the values it takes in turn."""

    key: str
    values: tuple[str, ...]
    """As written; a fleet file's reader makes numbers of numbers."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A fleet with one value of every axis."""

    changes: Mapping[str, str]
    """Key to value, in the order of the axes."""
    config: FleetConfig

    @property
    def label(self) -> str:
        """`prefix-load + sarathi`; without axes the fleet's own routing and batching."""
        if not self.changes:
            return f"{self.config.policy.routing} + {self.config.policy.batching}"
        return " + ".join(_short(key, value) for key, value in self.changes.items())


def parse_axis(text: str) -> Axis:
    """`policy.routing=a,b`. Commas inside brackets or quotes do not part values."""
    key, _, values = text.partition("=")
    found = tuple(value.strip() for value in _parts(values))
    if not key.strip() or not all(found):
        raise ConfigError(
            f"--vary {text!r} is not KEY=VALUE,VALUE. "
            "Example: --vary policy.routing=round-robin,least-load"
        )
    if len(set(found)) < len(found):
        raise ConfigError(f"--vary {text!r} names a value twice.")
    return Axis(key.strip(), found)


def combinations(axes: Sequence[Axis]) -> list[dict[str, str]]:
    """Every choice of one value for each axis, the last axis fastest."""
    keys = [axis.key for axis in axes]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"--vary {key} is given twice; list all its values in one.")
    return [
        dict(zip(keys, values, strict=True)) for values in product(*(axis.values for axis in axes))
    ]


def _parts(text: str) -> list[str]:
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        else:
            depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _short(key: str, value: str) -> str:
    """A policy's name says what it is; other values need their key."""
    head, _, last = key.rpartition(".")
    return value if head == "policy" and last in registry.FAMILIES else f"{last}={value}"


# ---------------------------------------------------------------- the grid


@dataclass(frozen=True, slots=True)
class Column:
    """A trace at one rate: what all variants are measured against."""

    trace: TraceSource
    rate_rps: float | None
    """None plays the trace at its own pace."""


@dataclass(frozen=True, slots=True)
class Grid:
    columns: Sequence[Column]
    variants: Sequence[Variant]
    axes: Sequence[Axis]
    shape: Shape
    seeds: Sequence[int]
    fleet: str = ""
    warmup_s: float = 0.0

    def check(self) -> int:
        """Opens every trace once, so that a mistake shows before anything runs. Returns how many
        requests the whole grid will simulate."""
        rows = (
            column.trace.shaped(replace(self.shape, rate_rps=column.rate_rps)).n_rows
            for column in self.columns
        )
        return sum(rows) * len(self.variants) * len(self.seeds)

    def cells(self) -> list[Cell]:
        """In the order of columns, variants, seeds. Only first seeds carry curves."""
        return [
            Cell(
                column.trace,
                replace(self.shape, rate_rps=column.rate_rps),
                variant.config,
                self.fleet,
                seed,
                self.warmup_s,
                detailed=seed == self.seeds[0],
            )
            for column in self.columns
            for variant in self.variants
            for seed in self.seeds
        ]


def compare(grid: Grid, jobs: int, progress: Progress | None = None) -> dict[str, Any]:
    """The comparison as the JSON object of `summary.json`: one cell for each column and variant,
    with the Summary of its first seed and the intervals over all seeds."""
    summaries = run_all(run_cell, grid.cells(), jobs, progress)
    places = list(product(grid.columns, enumerate(grid.variants)))
    cells = [
        _cell(column, place, variant, grid.seeds, runs)
        for (column, (place, variant)), runs in zip(
            places, _groups(summaries, len(grid.seeds)), strict=True
        )
    ]
    for group in _groups(cells, len(grid.variants)):
        _rank(group)
    return {
        "fairlead": __version__,
        "fleet": grid.fleet,
        "vary": {axis.key: list(axis.values) for axis in grid.axes},
        "seeds": list(grid.seeds),
        "warmup_s": grid.warmup_s,
        "cells": cells,
    }


def _cell(
    column: Column, place: int, variant: Variant, seeds: Sequence[int], runs: Sequence[Summary]
) -> dict[str, Any]:
    shown = [run.to_json() for run in runs]
    return {
        "trace": column.trace.name,
        "rate_rps": column.rate_rps,
        "set": dict(variant.changes),
        "label": variant.label,
        "variant": place,
        "over_seeds": over_seeds(seeds, shown),
        "summary": shown[0],
    }


def _rank(cells: list[dict[str, Any]]) -> None:
    """Ranks the cells of one column by mean goodput, from 1, and marks those that are like the
    best: the seeds do not tell them apart, or they are too near to matter."""
    goodput = [
        [value or 0.0 for value in cell["over_seeds"]["goodput_rps"]["values"]] for cell in cells
    ]
    order = sorted(range(len(cells)), key=lambda place: (-sum(goodput[place]), place))
    best = goodput[order[0]]
    for rank, place in enumerate(order, start=1):
        cells[place]["rank"] = rank
        near = sum(goodput[place]) >= (1 - ALIKE) * sum(best)
        cells[place]["like_best"] = near or not told_apart(best, goodput[place])


def _groups(values: Sequence[_T], size: int) -> list[list[_T]]:
    return [list(values[start : start + size]) for start in range(0, len(values), size)]
