"""Reads traces in CSV and JSON lines, a line at a time."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import msgspec

from fairlead.model import ConfigError


class CsvSource:
    """A CSV file whose first line names its columns; lines that open with # before it are notes,
    and notes of the form `# key: value` are its metadata."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _opened(path) as file:
            notes, header = _notes_and_header(file)
        self.metadata: Mapping[str, str] = _metadata(notes)
        self.header: Sequence[str] = [name.strip() for name in next(csv.reader([header]), [])]
        self._n_before = len(notes) + 1
        if not any(self.header):
            raise ConfigError(f"{path} is empty; expected a first line that names the columns.")

    def records(self, columns: Sequence[str]) -> Iterator[tuple[str, Sequence[object]]]:
        """Yields each row's place and its values in the order of `columns`."""
        places = [self.header.index(name) for name in columns]
        with _opened(self.path) as file:
            for _ in range(self._n_before):
                file.readline()
            reader = csv.reader(file)
            for cells in reader:
                if not cells:
                    continue
                where = f"line {self._n_before + reader.line_num}"
                if len(cells) <= max(places):
                    raise ConfigError(
                        f"{self.path}, {where}: {len(cells)} values, expected {len(self.header)}. "
                        "Was the file cut short?"
                    )
                yield where, [cells[place] for place in places]


class JsonlSource:
    """A file with one JSON object a line; the first object names the columns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata: Mapping[str, str] = {}
        first = next(self._objects(), None)
        if first is None:
            raise ConfigError(f"{path} is empty; expected one JSON object a line.")
        self.header: Sequence[str] = list(first[1])

    def records(self, columns: Sequence[str]) -> Iterator[tuple[str, Sequence[object]]]:
        """Yields each row's place and its values in the order of `columns`."""
        for where, row in self._objects():
            yield where, [row.get(name) for name in columns]

    def _objects(self) -> Iterator[tuple[str, dict[str, object]]]:
        decoder = msgspec.json.Decoder(dict[str, object])
        with _opened(self.path) as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    row = decoder.decode(line)
                except msgspec.MsgspecError as error:
                    raise ConfigError(
                        f"{self.path}, line {number}: not a JSON object ({error})."
                    ) from error
                yield f"line {number}", row


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


def _notes_and_header(file: TextIO) -> tuple[list[str], str]:
    notes: list[str] = []
    for line in file:
        if not line.startswith("#"):
            return notes, line
        notes.append(line)
    return notes, ""


def _metadata(notes: Sequence[str]) -> dict[str, str]:
    pairs = (note.lstrip("# ").partition(": ") for note in notes)
    return {key.strip(): value.strip() for key, sign, value in pairs if sign}
