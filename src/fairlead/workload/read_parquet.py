"""Reads traces in Parquet, a batch of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fairlead.model import ConfigError

BATCH_ROWS = 8192
"""Rows held at once: a few megabytes even with long lists of hashes."""


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
                self.n_rows: int = file.metadata.num_rows
        except (pa.ArrowException, OSError) as error:
            raise ConfigError(_unreadable(path, error)) from error

    def records(self, columns: Sequence[str]) -> Iterator[tuple[str, Sequence[object]]]:
        """Yields each row's place and its values in the order of `columns`."""
        number = 0
        for batch in self._batches(columns):
            lists = [batch.column(name).to_pylist() for name in columns]
            for values in zip(*lists, strict=True):
                number += 1
                yield f"row {number}", values

    def _batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        try:
            with pq.ParquetFile(self.path) as file:
                yield from file.iter_batches(batch_size=BATCH_ROWS, columns=list(columns))
        except (pa.ArrowException, OSError) as error:
            raise ConfigError(_unreadable(self.path, error)) from error


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
