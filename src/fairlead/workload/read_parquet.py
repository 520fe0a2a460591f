"""Reads traces in Parquet, a part at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from fairlead.model import ConfigError
from fairlead.workload.check_rows import Cells, RawColumns

PART_ROWS = 32_768
"""Rows held at once: a few megabytes."""
LISTS_PART_ROWS = 2_048
"""The same where rows hold long lists of hashes."""


def is_parquet(path: Path) -> bool:
    """True where the file opens with Parquet's magic bytes."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}.") from error


class ParquetSource:
    """A Parquet file whose footer was read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with pq.ParquetFile(path) as file:
                self.header: Sequence[str] = file.schema_arrow.names
                self.metadata: Mapping[str, str] = _texts(file.schema_arrow.metadata or {})
                self.n_rows: int | None = file.metadata.num_rows
                self._lists = {
                    field.name for field in file.schema_arrow if types.is_nested(field.type)
                }
        except (pa.ArrowException, OSError) as error:
            raise ConfigError(_unreadable(path, error)) from error

    def parts(self, columns: Sequence[str]) -> Iterator[RawColumns]:
        """The file's rows in order, with these columns."""
        first = 0
        n_rows = LISTS_PART_ROWS if self._lists.intersection(columns) else PART_ROWS
        for part in self.record_batches(columns, n_rows):
            cells = [_cells(part.column(name)) for name in columns]
            yield RawColumns(first, part.num_rows, cells, _Where(first))
            first += part.num_rows

    def record_batches(self, columns: Sequence[str], n_rows: int) -> Iterator[Any]:
        """Parts of the file as pyarrow makes them."""
        try:
            with pq.ParquetFile(self.path) as file:
                # Threads of pyarrow would compete with simulations that run side by side.
                yield from file.iter_batches(n_rows, columns=list(columns), use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise ConfigError(_unreadable(self.path, error)) from error


class _Where:
    def __init__(self, first: int) -> None:
        self._first = first

    def __call__(self, place: int) -> str:
        return f"row {self._first + place + 1}"


def _cells(column: Any) -> Cells:
    kind = column.type
    if types.is_dictionary(kind):
        return _cells(column.dictionary_decode())
    if types.is_timestamp(kind):
        per_s = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[kind.unit]
        return np.asarray(_cells(column.cast(pa.int64())), dtype=np.float64) / per_s
    if types.is_floating(kind) or (types.is_integer(kind) and not column.null_count):
        numbers: Cells = column.to_numpy(zero_copy_only=False)
        return numbers
    if _is_plain_list(column):
        return _lists(column)
    values: Cells = column.to_pylist()
    return values


def _is_plain_list(column: Any) -> bool:
    kind = column.type
    if not (types.is_list(kind) or types.is_large_list(kind)):
        return False
    return types.is_integer(kind.value_type) and not column.values.null_count


def _lists(column: Any) -> Sequence[object]:
    """Each row's list as a tuple; several times as fast as `to_pylist`."""
    offsets = column.offsets.to_numpy(zero_copy_only=False)
    start = int(offsets[0])
    flat = column.values.to_numpy(zero_copy_only=False)[start : int(offsets[-1])].tolist()
    ends = (offsets - start).tolist()
    lists = [tuple(flat[a:b]) for a, b in pairwise(ends)]
    if not column.null_count:
        return lists
    empty = np.asarray(column.is_null()).tolist()
    return [None if is_null else ids for ids, is_null in zip(lists, empty, strict=True)]


def _texts(metadata: Mapping[bytes, bytes]) -> dict[str, str]:
    return {
        key.decode(errors="replace"): value.decode(errors="replace")
        for key, value in metadata.items()
        if not key.startswith((b"ARROW:", b"pandas"))
    }


def _unreadable(path: Path, error: Exception) -> str:
    first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
    return (
        f"{path} is not a readable Parquet file: {first_line} "
        "Was it cut short while copying? CSV and JSONL traces need the ending .csv or .jsonl."
    )


def read_table(path: str, columns: Sequence[str]) -> dict[str, list[Any]]:
    """A small Parquet file as lists by column. Raises `ConfigError`, also where one is missing."""
    if not Path(path).is_file():
        raise ConfigError(f"there is no file {path}.")
    source = ParquetSource(Path(path))
    missing = [name for name in columns if name not in source.header]
    if missing:
        raise ConfigError(
            f"{path} has no column {' and no column '.join(missing)}; it has: "
            f"{', '.join(source.header)}."
        )
    table: dict[str, list[Any]] = {name: [] for name in columns}
    for part in source.parts(columns):
        for name, cells in zip(columns, part.cells, strict=True):
            table[name] += cells.tolist() if isinstance(cells, np.ndarray) else cells
    return table
