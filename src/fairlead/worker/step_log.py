"""Writes down what each step was and how long it took: what a latency profile is fitted to.

The seconds are those that a worker needs for one step in its loop, planning and frames included,
so a profile fitted to them knows what no timing of the engine alone can.
"""

from __future__ import annotations

import csv
from pathlib import Path

from fairlead.latency import Point, StepShape
from fairlead.model import ConfigError

HEADER = (*StepShape.__struct_fields__, "seconds")


class StepLog:
    """A CSV file that grows by a line a step. Raises `ConfigError` where it cannot be written."""

    def __init__(self, path: str) -> None:
        try:
            # Line by line, so that who reads along sees every step that has been.
            self._file = Path(path).open("w", 1, encoding="utf-8", newline="")  # noqa: SIM115
        except OSError as error:
            raise ConfigError(f"cannot write the step log {path}: {error.strerror}") from None
        self._rows = csv.writer(self._file)
        self._rows.writerow(HEADER)

    def add(self, shape: StepShape, seconds: float) -> None:
        fields = (getattr(shape, name) for name in StepShape.__struct_fields__)
        self._rows.writerow((*fields, f"{seconds:.9f}"))

    def close(self) -> None:
        self._file.close()


class StepTail:
    """Reads a log while it grows. Raises `ConfigError` where it is none."""

    def __init__(self, path: str | Path) -> None:
        self._path = path
        try:
            self._file = Path(path).open(encoding="utf-8", newline="")  # noqa: SIM115
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from None
        if tuple(next(csv.reader([self._file.readline()]), ())) != HEADER:
            raise ConfigError(f"{path} is no step log; its first line must be {','.join(HEADER)}")

    def new(self) -> list[Point]:
        """The steps since it was asked last."""
        rows = csv.reader(self._file.readlines())
        try:
            return [_point(row) for row in rows if len(row) == len(HEADER)]
        except ValueError as error:
            raise ConfigError(f"{self._path} is no step log: {error}") from None

    def close(self) -> None:
        self._file.close()


def _point(row: list[str]) -> Point:
    decodes, context, prefill, pairs, longest, sampled, seconds = row
    shape = StepShape(
        int(decodes), int(context), int(prefill), float(pairs), int(longest), int(sampled)
    )
    return shape, float(seconds)
