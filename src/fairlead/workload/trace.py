"""A trace: who asked for how much, and when. Rows are streamed, never held all at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Protocol

from fairlead.model import ConfigError
from fairlead.workload.check_rows import RawColumns, RowChecker
from fairlead.workload.columns import TraceColumns, in_order_of_arrival, joined
from fairlead.workload.layouts import LENGTHS, Layout, check_columns, recognise
from fairlead.workload.parts import limited
from fairlead.workload.row import TraceRow

__all__ = ["SHIPPED", "Trace", "TraceRow", "open_trace", "resolve"]

SHIPPED = {"azure-conv-slice": "azure2023_conv_slice.csv"}
"""Traces that come with the package, by name; their sources and licences stand in data/NOTICE."""


class Source(Protocol):
    """A file of rows, opened and ready to be read any number of times."""

    @property
    def header(self) -> Sequence[str]: ...
    @property
    def metadata(self) -> Mapping[str, str]: ...
    @property
    def n_rows(self) -> int | None:
        """How many rows it holds, where that is known without reading them."""
        ...

    def parts(self, columns: Sequence[str]) -> Iterator[RawColumns]:
        """All rows in order, some at a time, with these columns."""
        ...


class Trace:
    """A trace that was found, opened and understood; `rows` may be called again and again."""

    def __init__(
        self, name: str, path: Path, source: Source, layout: Layout, sort: bool = False
    ) -> None:
        self.name = name
        self.path = path
        self.layout = layout
        self.metadata = source.metadata
        self.skipped: Counter[str] = Counter()
        """Why rows were left out, and how many, as of the latest reading."""
        self._source = source
        self._sort = sort

    @property
    def has_arrivals(self) -> bool:
        return "arrival_s" in self.layout.columns

    @property
    def has_sessions_only(self) -> bool:
        """True where times are known inside each session, but not when sessions start."""
        return not self.has_arrivals and "session_t_s" in self.layout.columns

    @property
    def hash_block_tokens(self) -> int:
        return self.layout.hash_block_tokens

    @property
    def n_rows(self) -> int | None:
        """Rows of the file, usable or not; None where that is not known before reading it."""
        return self._source.n_rows

    def has(self, name: str) -> bool:
        """Whether it has this column of the common schema."""
        return name in self.layout.columns

    def rows(self) -> Iterator[TraceRow]:
        """Every usable row in order of arrival. Raises `ConfigError` where times run back."""
        return chain.from_iterable(part.rows() for part in self.parts())

    def parts(
        self, only: Collection[str] | None = None, most: int | None = None
    ) -> Iterator[TraceColumns]:
        """The same, some rows at a time as columns. `only` names the columns of the common schema
        that are wanted beside lengths and arrival; None wants all. `most` is how many rows."""
        if self._sort and self.has_arrivals:
            return limited(map(in_order_of_arrival, _all_at_once(self._parts(only, None))), most)
        return self._parts(only, most)

    def _parts(self, only: Collection[str] | None, most: int | None) -> Iterator[TraceColumns]:
        names = [
            name
            for name in self.layout.columns
            if only is None or name in only or name in (*LENGTHS, "arrival_s")
        ]
        checker = RowChecker(self.layout, names, self.path, not self._sort, most)
        self.skipped = checker.skipped
        for raw in self._source.parts([self.layout.columns[name] for name in names]):
            part = checker.usable(raw)
            self.skipped = checker.skipped
            if len(part):
                yield part
            if checker.is_over:
                return


def _all_at_once(parts: Iterator[TraceColumns]) -> Iterator[TraceColumns]:
    if held := list(parts):
        yield joined(held)


def resolve(name_or_path: str | Path) -> Path:
    """The file behind a path or the name of a shipped trace."""
    shipped = SHIPPED.get(str(name_or_path))
    path = Path(name_or_path)
    if shipped is not None and not path.exists():
        return Path(__file__).parent / "data" / shipped
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; expected a trace file (Parquet, CSV or JSONL).")
    if not path.exists():
        raise ConfigError(_not_found(path))
    return path


def _not_found(path: Path) -> str:
    beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = get_close_matches(path.name, [*beside, *SHIPPED], n=3)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"no trace at {path}.{hint} Shipped with Fairlead: {', '.join(SHIPPED)}."


def open_trace(
    name_or_path: str | Path,
    columns: Mapping[str, str] | None = None,
    sort: bool = False,
) -> Trace:
    """Opens a trace and checks that it can be played. `columns` names the columns of a file in a
    layout of its own, see `layouts.parse_columns`. Raises `ConfigError`."""
    path = resolve(name_or_path)
    source = _open_source(path)
    layout = recognise(source.header, source.metadata, columns)
    check_columns(path, layout, source.header)
    return Trace(str(name_or_path), path, source, layout, sort)


def _open_source(path: Path) -> Source:
    from fairlead.workload.read_parquet import ParquetSource, is_parquet
    from fairlead.workload.read_text import CsvSource, JsonlSource

    if path.suffix in (".parquet", ".pq") or is_parquet(path):
        return ParquetSource(path)
    if path.suffix in (".jsonl", ".ndjson", ".json"):
        return JsonlSource(path)
    return CsvSource(path)
