"""Writes a trace in the common schema: Parquet, or CSV where the file's name ends so."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import repeat
from pathlib import Path
from typing import Any, Protocol, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from fairlead.model import ConfigError
from fairlead.workload.columns import TraceColumns, joined

GROUP_ROWS = 131_072
"""Rows of a row group."""
NAMES = {
    "session_id": pa.string(),
    "turn": pa.int32(),
    "tenant": pa.string(),
    "tool_gap_s": pa.float64(),
    "hash_ids": pa.list_(pa.int64()),
}
"""Fields of a row that a generator may fill, in the order in which they are written."""
SUFFIXES = (".parquet", ".csv")


class _Writer(Protocol):
    def write(self, rows: TraceColumns) -> None: ...
    def close(self) -> None: ...


def check_place(path: Path) -> None:
    """Raises `ConfigError` where no trace can be written."""
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"--out {path}: expected a name that ends in {' or '.join(SUFFIXES)}.")
    if path.is_dir():
        raise ConfigError(f"--out {path} is a folder; give the name of a file to write.")
    if not path.parent.is_dir():
        raise ConfigError(f"cannot write {path}: there is no folder {path.parent}.")


def write_trace(path: Path, parts: Iterable[TraceColumns], metadata: Mapping[str, str]) -> None:
    """Writes all rows; the file appears under its name once it is whole."""
    check_place(path)
    draft = path.with_name(f".{path.name}.draft")
    try:
        _write(draft, path.suffix, parts, metadata)
        draft.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _write(
    draft: Path, suffix: str, parts: Iterable[TraceColumns], metadata: Mapping[str, str]
) -> None:
    writer: _Writer | None = None
    try:
        for rows in _groups(parts):
            if writer is None:
                kind = _Csv if suffix == ".csv" else _Parquet
                writer = kind(draft, rows, metadata)
            writer.write(rows)
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        raise ConfigError("nothing was drawn: no request arrives in that time.")


def _groups(parts: Iterable[TraceColumns]) -> Iterator[TraceColumns]:
    held: list[TraceColumns] = []
    n_rows = 0
    for part in parts:
        held.append(part)
        n_rows += len(part)
        if n_rows >= GROUP_ROWS:
            yield joined(held)
            held, n_rows = [], 0
    if held:
        yield joined(held)


def _columns(rows: TraceColumns) -> dict[str, tuple[Any, Sequence[Any]]]:
    """By name in the common schema: its type, and its values."""
    columns: dict[str, tuple[Any, Sequence[Any]]] = {}
    if rows.arrival_s is not None:
        columns["arrival_s"] = pa.float64(), rows.arrival_s  # type: ignore[assignment]
    columns["prompt_tokens"] = pa.int32(), rows.prompt_tokens  # type: ignore[assignment]
    columns["output_tokens"] = pa.int32(), rows.output_tokens  # type: ignore[assignment]
    for field, kind in NAMES.items():
        if field in rows.others:
            columns["client_id" if field == "tenant" else field] = kind, rows.others[field]
    return columns


class _Parquet:
    def __init__(self, path: Path, first: TraceColumns, metadata: Mapping[str, str]) -> None:
        types = [(name, kind) for name, (kind, _) in _columns(first).items()]
        self._schema = pa.schema(types, metadata=dict(metadata))
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")

    def write(self, rows: TraceColumns) -> None:
        arrays = [pa.array(values, kind) for kind, values in _columns(rows).values()]
        self._writer.write_table(pa.table(arrays, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


class _Csv:
    def __init__(self, path: Path, first: TraceColumns, metadata: Mapping[str, str]) -> None:
        self._file: TextIO = path.open("w", encoding="utf-8", newline="")
        self._file.writelines(f"# {key}: {value}\n" for key, value in metadata.items())
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(_columns(first))

    def write(self, rows: TraceColumns) -> None:
        cells = [_cells(name, values) for name, (_, values) in _columns(rows).items()]
        self._writer.writerows(zip(*cells, strict=True))

    def close(self) -> None:
        self._file.close()


def _cells(name: str, values: Any) -> Iterable[object]:
    if name == "hash_ids":
        return map(" ".join, (map(str, ids) for ids in values))
    if hasattr(values, "tolist"):
        values = values.tolist()
    return map(round, values, repeat(6)) if name == "arrival_s" else values
