"""A trace: who asked for how much, and when. Rows are streamed, never held all at once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from fairlead.model import ConfigError
from fairlead.workload.layouts import LENGTHS, Layout, Unit, check_columns, recognise

SHIPPED = {"azure-conv-slice": "azure2023_conv_slice.csv"}
"""Traces that come with the package, by name; their sources and licences stand in data/NOTICE."""


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One request of a trace."""

    index: int
    """Its place in the file, from 0, skipped rows counted."""
    arrival_s: float | None
    """Seconds on the trace's clock; None where the trace has no common clock."""
    prompt_tokens: int
    output_tokens: int
    hash_ids: Sequence[int] = ()
    """Prefix blocks: equal ids mean equal content from the first token to the end of the block."""
    hash_block_tokens: int = 0
    session_id: str | None = None
    turn: int | None = None
    """Order of the call in its session, from 0."""
    agent_id: str | None = None
    model: str = ""
    tenant: str = ""
    """The source's client label (`client_id`)."""
    category: str = ""
    priority: int | None = None
    session_t_s: float | None = None
    """Seconds from the start of its own session."""
    tool_gap_s: float | None = None
    """Seconds its client stayed away before this call."""

    @property
    def program(self) -> str | None:
        """The program it belongs to: its session."""
        return self.session_id


class Source(Protocol):
    """A file of rows, opened and ready to be read any number of times."""

    @property
    def header(self) -> Sequence[str]: ...
    @property
    def metadata(self) -> Mapping[str, str]: ...
    def records(self, columns: Sequence[str]) -> Iterator[tuple[str, Sequence[object]]]:
        """Yields where each row stands ("line 17") and its values in the order of `columns`."""
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

    def rows(self) -> Iterator[TraceRow]:
        """Every usable row in order of arrival. Raises `ConfigError` where times run back."""
        rows = self._usable_rows()
        if self._sort and self.has_arrivals:
            return iter(sorted(rows, key=lambda row: row.arrival_s or 0.0))
        return self._in_order(rows)

    def _usable_rows(self) -> Iterator[TraceRow]:
        self.skipped.clear()
        maker = _RowMaker(self.layout)
        for index, (where, values) in enumerate(
            self._source.records(list(self.layout.columns.values()))
        ):
            try:
                made = maker.make(index, values)
            except ValueError as error:
                raise ConfigError(f"{self.path}, {where}: {error}") from error
            if isinstance(made, str):
                self.skipped[made] += 1
            else:
                yield made

    def _in_order(self, rows: Iterator[TraceRow]) -> Iterator[TraceRow]:
        last = -math.inf
        for row in rows:
            if row.arrival_s is not None:
                if row.arrival_s < last:
                    raise ConfigError(
                        f"{self.path}: row {row.index + 1} arrives at {row.arrival_s:g} s, before "
                        f"the row above it ({last:g} s). A trace is played in order of arrival: "
                        "sort the file by its time column, or pass --sort to sort it in memory."
                    )
                last = row.arrival_s
            yield row


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


class _RowMaker:
    """Turns the values of a file into `TraceRow`s, or says why a row is left out."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._names = list(layout.columns)
        self._plain = [
            (field, name, read)
            for name, (field, read) in _PLAIN_FIELDS.items()
            if name in layout.columns
        ]
        self._has_hashes = layout.hash_block_tokens > 0
        self._epoch: tuple[datetime, float] | None = None
        self._unix_s: float | None = None

    def make(self, index: int, values: Sequence[object]) -> TraceRow | str:
        cell = dict(zip(self._names, values, strict=True))
        lengths: list[int] = []
        for name in LENGTHS:
            if _empty(cell[name]):
                return f"{name} is missing"
            n_tokens = _whole(name, cell[name])
            if n_tokens <= 0:
                return f"{name} is {'negative' if n_tokens else '0'}"
            lengths.append(n_tokens)
        arrival = cell.get("arrival_s")
        if _empty(arrival) and "arrival_s" in cell:
            return "arrival_s is missing"
        plain: dict[str, Any] = {
            field: read(name, cell[name])
            for field, name, read in self._plain
            if not _empty(cell[name])
        }
        if self._has_hashes:
            plain["hash_ids"] = _hash_ids(cell)
            plain["hash_block_tokens"] = self._layout.hash_block_tokens
        arrival_s = None if arrival is None else self._arrival_s(arrival)
        return TraceRow(index, arrival_s, lengths[0], lengths[1], **plain)

    def _arrival_s(self, value: object) -> float:
        if isinstance(value, str) and self._layout.unit is Unit.TIMESTAMP and _is_date(value):
            return self._since_first(value)
        seconds = _number("arrival_s", value) * self._layout.unit.seconds
        if self._unix_s is None:
            # Beyond three years it is a Unix time, and the trace starts with its first row.
            self._unix_s = seconds if seconds > 1e8 else 0.0
        return seconds - self._unix_s

    def _since_first(self, text: str) -> float:
        moment, fraction_s = _timestamp(text)
        if self._epoch is None:
            self._epoch = moment, fraction_s
        first, first_fraction_s = self._epoch
        return (moment - first) / timedelta(seconds=1) + (fraction_s - first_fraction_s)


def _is_date(text: str) -> bool:
    return ":" in text or text.count("-") > 1


def _timestamp(text: str) -> tuple[datetime, float]:
    """A moment in whole seconds and the fraction beside it, of any number of digits."""
    head, _, rest = text.strip().partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    try:
        moment = datetime.fromisoformat(head + rest[len(digits) :])
    except ValueError:
        raise ValueError(f"{text!r} is no time such as 2023-11-16 18:15:46.68") from None
    return moment, float(f"0.{digits}") if digits else 0.0


def _hash_ids(cell: Mapping[str, object]) -> Sequence[int]:
    runs = cell.get("hash_runs")
    if runs is not None:
        numbers = _ids("hash_runs", runs)
        if len(numbers) % 2:
            raise ValueError("hash_runs holds pairs (first id, count), but has an odd length")
        pairs = zip(numbers[::2], numbers[1::2], strict=True)
        return tuple(chain.from_iterable(range(first, first + n) for first, n in pairs))
    ids = cell.get("hash_ids")
    return _ids("hash_ids", ids) if ids is not None else ()


def _ids(name: str, value: object) -> tuple[int, ...]:
    if isinstance(value, str):  # a CSV cell such as "[1, 2, 3]" or "1 2 3"
        value = value.strip("[] ").replace(",", " ").split()
    if not isinstance(value, list):
        raise ValueError(f"{name} is {value!r}, expected a list of whole numbers")
    try:
        return tuple(map(int, value))
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {value!r}, expected a list of whole numbers") from None


def _empty(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _number(name: str, value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {value!r}, expected a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} is {value!r}, expected a finite number")
    return number


def _whole(name: str, value: object) -> int:
    if type(value) is int:
        return value
    number = _number(name, value)
    if number != int(number):
        raise ValueError(f"{name} is {value!r}, expected a whole number")
    return int(number)


def _text(name: str, value: object) -> str:
    return str(value)


_PLAIN_FIELDS: Mapping[str, tuple[str, Callable[[str, object], object]]] = {
    "session_id": ("session_id", _text),
    "turn": ("turn", _whole),
    "agent_id": ("agent_id", _text),
    "model": ("model", _text),
    "client_id": ("tenant", _text),
    "category": ("category", _text),
    "priority": ("priority", _whole),
    "session_t_s": ("session_t_s", _number),
    "tool_gap_s": ("tool_gap_s", _number),
}
"""Name in the common schema to field of a row and how its value is read."""
