"""Reads traces in CSV and JSON lines, some lines at a time."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TextIO, TypeVar

import msgspec

from fairlead.model import ConfigError
from fairlead.workload.check_rows import RawColumns

PART_ROWS = 8_192
"""Rows held at once."""
LONGEST_LINE = 16 * 1024 * 1024
"""A line of a trace is shorter; a binary file may have no line ends at all."""


class CsvSource:
    """A CSV file whose first line names its columns; lines that open with # before it are notes,
    and notes of the form `# key: value` are its metadata."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _opened(path) as file:
            notes, header = _notes_and_header(_lines(file, path))
        self.metadata: Mapping[str, str] = _metadata(notes)
        self.header: Sequence[str] = [name.strip() for name in next(csv.reader([header]), [])]
        self.n_rows: int | None = None
        """Not known before it was read."""
        self._n_before = len(notes) + 1
        if "\0" in header:
            raise ConfigError(f"{path} is not text; expected Parquet, CSV or JSON lines.")
        if not any(self.header):
            raise ConfigError(f"{path} is empty; expected a first line that names the columns.")

    def parts(self, columns: Sequence[str]) -> Iterator[RawColumns]:
        """The file's rows in order, with these columns."""
        places = [self.header.index(name) for name in columns]
        first = 0
        for lines, rows in _many(self._rows(max(places) + 1)):
            by_column = list(zip(*rows, strict=True))
            cells = [by_column[place] for place in places]
            yield RawColumns(first, len(rows), cells, _Line(lines))
            first += len(rows)

    def _rows(self, n_cells: int) -> Iterator[tuple[int, Sequence[str]]]:
        """Each row with the number of its line, and as many cells as the header has names."""
        with _opened(self.path) as file:
            lines = _lines(file, self.path)
            for _ in range(self._n_before):
                next(lines, None)
            reader = csv.reader(lines)
            n_names = len(self.header)
            for cells in reader:
                if len(cells) == n_names:
                    yield self._n_before + reader.line_num, cells
                elif cells:
                    line = self._n_before + reader.line_num
                    if len(cells) < n_cells:
                        raise ConfigError(
                            f"{self.path}, line {line}: {len(cells)} values, expected {n_names}. "
                            "Was the file cut short?"
                        )
                    yield line, [*cells, *("" for _ in self.header)][:n_names]


class JsonlSource:
    """A file with one JSON object a line; the first object names the columns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata: Mapping[str, str] = {}
        self.n_rows: int | None = None
        first = next(self._objects(), None)
        if first is None:
            raise ConfigError(f"{path} is empty; expected one JSON object a line.")
        self.header: Sequence[str] = list(first[1])

    def parts(self, columns: Sequence[str]) -> Iterator[RawColumns]:
        """The file's rows in order, with these columns."""
        first = 0
        for lines, rows in _many(self._objects()):
            cells = [[row.get(name) for row in rows] for name in columns]
            yield RawColumns(first, len(rows), cells, _Line(lines))
            first += len(rows)

    def _objects(self) -> Iterator[tuple[int, dict[str, object]]]:
        decoder = msgspec.json.Decoder(dict[str, object])
        with _opened(self.path) as file:
            for number, line in enumerate(_lines(file, self.path), 1):
                if not line.strip():
                    continue
                try:
                    row = decoder.decode(line)
                except msgspec.MsgspecError as error:
                    raise ConfigError(
                        f"{self.path}, line {number}: not a JSON object ({error})."
                    ) from error
                yield number, row


class _Line:
    def __init__(self, lines: Sequence[int]) -> None:
        self._lines = lines

    def __call__(self, place: int) -> str:
        return f"line {self._lines[place]}"


Cell = TypeVar("Cell")


def _many(rows: Iterator[tuple[int, Cell]]) -> Iterator[tuple[Sequence[int], Sequence[Cell]]]:
    """Up to `PART_ROWS` at a time: their numbers, and they themselves."""
    while part := list(islice(rows, PART_ROWS)):
        yield [number for number, _ in part], [row for _, row in part]


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not text; expected Parquet, CSV or JSON lines ({error.reason})."
        ) from error
    except csv.Error as error:
        raise ConfigError(f"{path} is not readable CSV: {error}.") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}.") from error


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    while line := file.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise ConfigError(
                f"{path} has a line of more than {LONGEST_LINE:,} characters, so it is no trace in "
                "CSV or JSON lines. A Parquet trace needs the ending .parquet."
            )
        yield line


def _notes_and_header(lines: Iterator[str]) -> tuple[list[str], str]:
    notes: list[str] = []
    for line in lines:
        if not line.startswith("#"):
            return notes, line
        notes.append(line)
    return notes, ""


def _metadata(notes: Sequence[str]) -> dict[str, str]:
    pairs = (note.lstrip("# ").partition(": ") for note in notes)
    return {key.strip(): value.strip() for key, sign, value in pairs if sign}
