"""Rows of a trace side by side, a column each: what is read, shaped, described and written.

Whatever is done to every row of a trace is done to whole columns; `TraceRow`s are made at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from itertools import compress, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairlead.workload.row import TraceRow

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TraceColumns:
    """Usable rows that follow one another in a trace."""

    index: Ints
    arrival_s: Floats | None
    """None where the trace has no common clock."""
    prompt_tokens: Ints
    output_tokens: Ints
    hash_block_tokens: int = 0
    others: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Further fields of a `TraceRow` by name, one value a row; those left out have the default."""

    def __len__(self) -> int:
        return len(self.index)

    def rows(self) -> Iterator[TraceRow]:
        columns: list[Any] = [
            self.index.tolist(),
            repeat(None) if self.arrival_s is None else self.arrival_s.tolist(),
            self.prompt_tokens.tolist(),
            self.output_tokens.tolist(),
        ]
        if self.others:
            given = {**self.others, "hash_block_tokens": repeat(self.hash_block_tokens)}
            columns += [given.get(name, repeat(default)) for name, default in _DEFAULTS]
        return map(TraceRow, *columns)

    def where(self, keep: NDArray[np.bool_]) -> TraceColumns:
        """Only the rows that `keep` marks."""
        if keep.all():
            return self
        chosen = keep.tolist()
        return replace(
            self,
            index=self.index[keep],
            arrival_s=None if self.arrival_s is None else self.arrival_s[keep],
            prompt_tokens=self.prompt_tokens[keep],
            output_tokens=self.output_tokens[keep],
            others={name: list(compress(column, chosen)) for name, column in self.others.items()},
        )

    def part(self, start: int, stop: int) -> TraceColumns:
        """Only the rows from `start` up to `stop`, counted from the first of these."""
        if start <= 0 and stop >= len(self):
            return self
        cut = slice(max(start, 0), max(stop, 0))
        return replace(
            self,
            index=self.index[cut],
            arrival_s=None if self.arrival_s is None else self.arrival_s[cut],
            prompt_tokens=self.prompt_tokens[cut],
            output_tokens=self.output_tokens[cut],
            others={name: column[cut] for name, column in self.others.items()},
        )

    def with_lengths_times(self, factor: float) -> TraceColumns:
        """Prompts, outputs and prefix blocks `factor` times as long, so that sharing stays."""
        size = self.hash_block_tokens
        return replace(
            self,
            prompt_tokens=_times(self.prompt_tokens, factor),
            output_tokens=_times(self.output_tokens, factor),
            hash_block_tokens=max(1, round(size * factor)) if size else 0,
        )


_DEFAULTS = tuple(
    (one.name, one.default if one.default is not MISSING else None) for one in fields(TraceRow)[4:]
)


def _times(lengths: Ints, factor: float) -> Ints:
    scaled: Ints = np.maximum(np.rint(lengths * factor), 1).astype(np.int64)
    return scaled


def joined(parts: Sequence[TraceColumns]) -> TraceColumns:
    """All parts as one; there is at least one, and all have the same columns."""
    first = parts[0]
    arrivals = [part.arrival_s for part in parts if part.arrival_s is not None]
    return replace(
        first,
        index=np.concatenate([part.index for part in parts]),
        arrival_s=np.concatenate(arrivals) if arrivals else None,
        prompt_tokens=np.concatenate([part.prompt_tokens for part in parts]),
        output_tokens=np.concatenate([part.output_tokens for part in parts]),
        others={
            name: [value for part in parts for value in part.others[name]] for name in first.others
        },
    )


def in_order_of_arrival(columns: TraceColumns) -> TraceColumns:
    """The same rows sorted by arrival; those of one instant keep their order."""
    if columns.arrival_s is None:
        return columns
    order = np.argsort(columns.arrival_s, kind="stable")
    places = order.tolist()
    return replace(
        columns,
        index=columns.index[order],
        arrival_s=columns.arrival_s[order],
        prompt_tokens=columns.prompt_tokens[order],
        output_tokens=columns.output_tokens[order],
        others={
            name: [column[place] for place in places] for name, column in columns.others.items()
        },
    )
