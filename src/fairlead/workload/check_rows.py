"""Turns what a file holds into usable rows, and counts what it leaves out.

A part of a file whose cells are all plain numbers is checked column by column. Any other part is
checked cell by cell, which is slower and knows more shapes of a number, and which can say what is
wrong with which row.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy.typing import NDArray

from fairlead.model import ConfigError
from fairlead.workload.cells import FIELDS, MOST_TOKENS, absurd, is_nothing, number_of, whole_of
from fairlead.workload.columns import Floats, Ints, TraceColumns
from fairlead.workload.layouts import LENGTHS, Layout, Unit, is_date, seconds_and_fraction

UNIX_S = 1e8
"""Beyond three years a time is a Unix time, and the trace starts with its first row."""

Marks = NDArray[np.bool_]
Cells = NDArray[Any] | Sequence[object]
"""A column as it was read: numbers in an array, where NaN is an empty cell, or any values."""


@dataclass(frozen=True, slots=True)
class RawColumns:
    """Rows as they stand in a file."""

    first: int
    """The first row's place in the file, from 0."""
    n_rows: int
    cells: Sequence[Cells]
    """One column for each name that was asked for, in that order."""
    where: Callable[[int], str]
    """Where the row stands that is so many after the first, in words: "line 17"."""


class _NotPlainError(Exception):
    """Some cell wants a closer look."""


class RowChecker:
    """Checks the parts of one file in order, in one reading."""

    def __init__(
        self,
        layout: Layout,
        wanted: Sequence[str],
        path: object,
        in_order: bool,
        most: int | None = None,
    ) -> None:
        """`most` ends the reading after so many usable rows; what comes after is not counted."""
        self.skipped: Counter[str] = Counter()
        self._left = math.inf if most is None else most
        self._layout = layout
        self._names = list(wanted)
        self._path = path
        self._in_order = in_order
        self._clock = _Clock(layout.unit)
        self._last_s = -math.inf

    def usable(self, raw: RawColumns) -> TraceColumns:
        """Raises `ConfigError` where a cell is no number, or where times run back."""
        cells = dict(zip(self._names, raw.cells, strict=True))
        try:
            columns = self._by_column(raw, cells)
        except _NotPlainError:
            columns = self._by_cell(raw, cells)
        self._left -= len(columns)
        if self._in_order and columns.arrival_s is not None:
            self._check_order(columns.index, columns.arrival_s)
        return columns

    @property
    def is_over(self) -> bool:
        """Whether as many usable rows were found as were wanted."""
        return self._left <= 0

    def _check_order(self, index: Ints, arrival_s: Floats) -> None:
        before = np.concatenate([[self._last_s], arrival_s])
        back = np.flatnonzero(before[1:] < before[:-1])
        if len(back):
            place = int(back[0])
            raise ConfigError(
                f"{self._path}: row {index[place] + 1} arrives at {before[place + 1]:g} s, before "
                f"the row above it ({before[place]:g} s). A trace is played in order of arrival: "
                "sort the file by its time column, or pass --sort to sort it in memory."
            )
        self._last_s = float(before[-1])

    # ------------------------------------------------------------ column by column

    def _by_column(self, raw: RawColumns, cells: Mapping[str, Cells]) -> TraceColumns:
        keep = np.ones(raw.n_rows, dtype=np.bool_)
        lengths = {name: _numbers(cells[name]) for name in LENGTHS}
        left_out: list[tuple[str, Marks]] = []
        for name, numbers in lengths.items():
            usable, reasons = _usable_lengths(name, numbers, keep)
            keep &= usable
            left_out += reasons
        arrival_s = None
        if "arrival_s" in cells:
            arrival_s = self._clock.column(cells["arrival_s"], keep)
            left_out.append(("arrival_s is missing", np.isnan(arrival_s) & keep))
            keep &= ~np.isnan(arrival_s)
        others = dict(_other_columns(cells))
        n_read = self._n_read(keep)
        keep[n_read:] = False
        for why, marks in left_out:
            if n := int(marks[:n_read].sum()):
                self.skipped[why] += n
        prompt, output = (
            np.where(keep, numbers, 0).astype(np.int64) for numbers in lengths.values()
        )
        columns = TraceColumns(
            np.arange(raw.first, raw.first + raw.n_rows),
            arrival_s,
            prompt,
            output,
            self._layout.hash_block_tokens,
            others,
        )
        return columns.where(keep)

    def _n_read(self, keep: Marks) -> int:
        """How many rows are read until there are enough usable ones."""
        if keep.sum() < self._left:
            return len(keep)
        return int(np.flatnonzero(keep)[int(self._left) - 1]) + 1

    # ------------------------------------------------------------ cell by cell

    def _by_cell(self, raw: RawColumns, cells: Mapping[str, Cells]) -> TraceColumns:
        kept: list[int] = []
        made: dict[str, list[Any]] = {name: [] for name in cells}
        columns = [c.tolist() if isinstance(c, np.ndarray) else c for c in raw.cells]
        for place, values in enumerate(zip(*columns, strict=True)):
            if len(kept) >= self._left:
                break
            try:
                row = self._row(dict(zip(self._names, values, strict=True)))
            except ValueError as error:
                raise ConfigError(f"{self._path}, {raw.where(place)}: {error}") from error
            if isinstance(row, str):
                self.skipped[row] += 1
                continue
            kept.append(raw.first + place)
            for name, value in row.items():
                made[name].append(value)
        others = {FIELDS[name].name: made[name] for name in made if name in FIELDS}
        prompt, output = (np.array(made[name], dtype=np.int64) for name in LENGTHS)
        return TraceColumns(
            np.array(kept, dtype=np.int64),
            np.array(made["arrival_s"], dtype=np.float64) if "arrival_s" in made else None,
            prompt,
            output,
            self._layout.hash_block_tokens,
            others,
        )

    def _row(self, cell: Mapping[str, object]) -> dict[str, object] | str:
        """The row's values by their common names, or why it is left out."""
        row: dict[str, object] = {}
        for name in LENGTHS:
            if is_nothing(cell[name]):
                return f"{name} is missing"
            n_tokens = whole_of(name, cell[name])
            if n_tokens <= 0:
                return f"{name} is {'negative' if n_tokens else '0'}"
            if n_tokens > MOST_TOKENS:
                return absurd(name)
            row[name] = n_tokens
        if "arrival_s" in cell:
            if is_nothing(cell["arrival_s"]):
                return "arrival_s is missing"
            row["arrival_s"] = self._clock.second(cell["arrival_s"])
        for name, value in cell.items():
            if (field := FIELDS.get(name)) is not None:
                row[name] = field.value_of(name, value)
        return row


class _Clock:
    """Makes seconds since the start of the trace of whatever the time column counts."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        self._zero_s: float | None = None
        self._epoch: tuple[int, float] | None = None

    def column(self, cells: Cells, keep: Marks) -> Floats:
        """Of a column; NaN where a cell is empty. Only rows marked by `keep` have to make sense."""
        dates = self._dates(cells)
        if dates is not None:
            return self._since_first(dates, keep)
        times = _numbers(cells)
        used = times[keep & ~np.isnan(times)]
        if not np.isfinite(used).all():
            raise _NotPlainError
        if not len(used):
            return times
        return times * self._unit.seconds - self._zero(float(used[0]) * self._unit.seconds)

    def _dates(self, cells: Cells) -> NDArray[np.datetime64] | None:
        """A column of dates without a zone, to the nanosecond."""
        first = cells[0] if len(cells) else None
        if self._unit is not Unit.TIMESTAMP or not isinstance(first, str) or not is_date(first):
            return None
        try:
            with catch_warnings():
                simplefilter("error")  # numpy only warns where there is a zone
                return np.array(cells, dtype="datetime64[ns]")
        except (TypeError, ValueError, OverflowError, Warning):
            raise _NotPlainError from None

    def _since_first(self, dates: NDArray[np.datetime64], keep: Marks) -> Floats:
        missing = np.isnat(dates)
        seconds, ns = np.divmod(dates.astype(np.int64), 1_000_000_000)
        used = np.flatnonzero(keep & ~missing)
        if len(used) and self._epoch is None:
            self._epoch = int(seconds[used[0]]), float(ns[used[0]]) / 1e9
        epoch_s, epoch_fraction_s = self._epoch or (0, 0.0)
        since_s = (seconds - epoch_s) + (ns / 1e9 - epoch_fraction_s)
        since_s[missing] = np.nan
        return np.asarray(since_s, dtype=np.float64)

    def second(self, value: object) -> float:
        """Of one cell."""
        if isinstance(value, str) and self._unit is Unit.TIMESTAMP and is_date(value):
            seconds, fraction_s = seconds_and_fraction(value)
            if self._epoch is None:
                self._epoch = seconds, fraction_s
            return (seconds - self._epoch[0]) + (fraction_s - self._epoch[1])
        number_s = number_of("arrival_s", value) * self._unit.seconds
        return number_s - self._zero(number_s)

    def _zero(self, first_s: float) -> float:
        if self._zero_s is None:
            self._zero_s = first_s if first_s > UNIX_S else 0.0
        return self._zero_s


# ---------------------------------------------------------------- columns


def _usable_lengths(
    name: str, numbers: Floats, keep: Marks
) -> tuple[Marks, list[tuple[str, Marks]]]:
    """Which lengths can be played, and why the others among `keep` cannot."""
    empty = np.isnan(numbers)
    if not (np.rint(numbers) == numbers)[~empty & keep].all():
        raise _NotPlainError
    usable = (numbers > 0) & (numbers <= MOST_TOKENS)
    if usable[keep].all():
        return usable, []
    return usable, [
        (f"{name} is missing", empty & keep),
        (f"{name} is 0", (numbers == 0) & keep),
        (f"{name} is negative", (numbers < 0) & keep),
        (absurd(name), (numbers > MOST_TOKENS) & keep),
    ]


def _numbers(cells: Cells) -> Floats:
    """A column as numbers, NaN where a cell is empty."""
    if isinstance(cells, np.ndarray):
        return cells.astype(np.float64, copy=False)
    try:
        numbers = np.array(cells, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise _NotPlainError from None
    if numbers.ndim != 1:  # every cell is a list
        raise _NotPlainError
    return numbers


def _other_columns(cells: Mapping[str, Cells]) -> Iterator[tuple[str, Sequence[object]]]:
    for name, column in cells.items():
        if (field := FIELDS.get(name)) is not None:
            values = column.tolist() if isinstance(column, np.ndarray) else column
            try:
                yield field.name, [field.value_of(name, value) for value in values]
            except ValueError:
                # Perhaps in a row that is left out anyway.
                raise _NotPlainError from None
