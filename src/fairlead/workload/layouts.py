"""The layouts in which traces are published, recognised by their header."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from enum import Enum
from pathlib import Path

from fairlead.model import ConfigError

LABELS = ("session_id", "turn", "agent_id", "model", "client_id", "category", "priority")
TIMES = ("arrival_s", "session_t_s", "tool_gap_s", "src_e2e_s")
LENGTHS = ("prompt_tokens", "output_tokens")
HASHES = ("hash_ids", "hash_runs")
COMMON = (*TIMES, *LENGTHS, *LABELS, *HASHES)
"""The columns of the common schema that Fairlead reads."""

SHORT_NAMES = {
    "arrival": "arrival_s",
    "prompt": "prompt_tokens",
    "output": "output_tokens",
    "session": "session_id",
    "program": "session_id",
    "tenant": "client_id",
    "client": "client_id",
    "agent": "agent_id",
}
"""What `--columns` accepts besides the names of the common schema and `arrival_ms`."""


class Unit(Enum):
    """What numbers in the time column count."""

    SECONDS = "seconds"
    MILLISECONDS = "milliseconds"
    TIMESTAMP = "timestamp"
    """Dates such as `2023-11-16 18:15:46.68`; plain numbers are seconds."""

    @property
    def seconds(self) -> float:
        return 0.001 if self is Unit.MILLISECONDS else 1.0


def is_date(text: str) -> bool:
    return ":" in text or text.count("-") > 1


def seconds_and_fraction(text: str) -> tuple[int, float]:
    """A date as whole seconds since 1970 and the fraction beside them, of any number of digits."""
    head, _, rest = text.strip().partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    try:
        moment = datetime.fromisoformat(head + rest[len(digits) :])
    except ValueError:
        raise ValueError(f"{text!r} is no time such as 2023-11-16 18:15:46.68") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = (moment - _1970) // timedelta(seconds=1)
    return seconds, float(f"0.{digits}") if digits else 0.0


_1970 = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Layout:
    """Which column of a file holds what."""

    name: str
    columns: Mapping[str, str]
    """Name in the common schema to name in the file."""
    unit: Unit = Unit.SECONDS
    hash_block_tokens: int = 0
    optional: Mapping[str, str] = field(default_factory=dict)
    """Columns that are read where the file has them."""


PUBLISHED = (
    Layout(
        "azure",
        {
            "arrival_s": "TIMESTAMP",
            "prompt_tokens": "ContextTokens",
            "output_tokens": "GeneratedTokens",
        },
        Unit.TIMESTAMP,
    ),
    Layout(
        "burstgpt",
        {
            "arrival_s": "Timestamp",
            "prompt_tokens": "Request tokens",
            "output_tokens": "Response tokens",
        },
        optional={"model": "Model", "category": "Log Type", "session_id": "Session ID"},
    ),
    # The anonymised traces of Alibaba Bailian look like Mooncake's, but count seconds.
    Layout(
        "bailian",
        {
            "arrival_s": "timestamp",
            "prompt_tokens": "input_length",
            "output_tokens": "output_length",
            "hash_ids": "hash_ids",
            "agent_id": "chat_id",
        },
        hash_block_tokens=16,
        optional={"category": "type", "turn": "turn"},
    ),
    Layout(
        "mooncake",
        {
            "arrival_s": "timestamp",
            "prompt_tokens": "input_length",
            "output_tokens": "output_length",
        },
        Unit.MILLISECONDS,
        hash_block_tokens=512,
        optional={"hash_ids": "hash_ids"},
    ),
)
"""Tried in this order; the first whose columns are all there wins."""


def recognise(
    header: Sequence[str], metadata: Mapping[str, str], columns: Mapping[str, str] | None
) -> Layout:
    """The layout of a file with this header. `columns` (from `parse_columns`) decides before any
    published layout; what it leaves out is read under the names of the common schema."""
    if columns is None and not set(LENGTHS) <= set(header):
        for layout in PUBLISHED:
            if set(layout.columns.values()) <= set(header):
                return _with_optional(layout, header)
    named = {name: name for name in COMMON if name in header}
    unit = Unit.TIMESTAMP
    for name, column in (columns or {}).items():
        if name == "arrival_ms":
            name, unit = "arrival_s", Unit.MILLISECONDS
        named[name] = column
    return _with_finest_hashes(Layout("common", named, unit), metadata)


def _with_optional(layout: Layout, header: Sequence[str]) -> Layout:
    found = {name: column for name, column in layout.optional.items() if column in header}
    return Layout(layout.name, {**layout.columns, **found}, layout.unit, layout.hash_block_tokens)


def _with_finest_hashes(layout: Layout, metadata: Mapping[str, str]) -> Layout:
    """`hash_runs` say the same as `hash_ids` in smaller blocks, so one of the two is enough."""
    columns = dict(layout.columns)
    if "hash_runs" in columns:
        columns.pop("hash_ids", None)
    name = next((name for name in HASHES if name in columns), None)
    if name is None:
        return Layout(layout.name, columns, layout.unit)
    size = metadata.get(f"{name}_block_size_tokens") or metadata.get("block_size_tokens") or "512"
    if not size.isdecimal() or int(size) < 1:
        raise ConfigError(f"the trace says its block size is {size!r}, expected a whole number")
    return Layout(layout.name, columns, layout.unit, int(size))


def parse_columns(text: str) -> dict[str, str]:
    """`arrival=ts,prompt=in,output=out` as a mapping from common names to the file's."""
    known = [*SHORT_NAMES, "arrival_ms", *COMMON]
    named: dict[str, str] = {}
    for part in text.split(","):
        name, sign, column = (word.strip() for word in part.partition("="))
        if not sign or not column:
            raise ConfigError(
                f"--columns: {part!r} is not NAME=COLUMN. "
                "Example: --columns arrival=ts,prompt=input_len,output=output_len"
            )
        if name not in known:
            raise ConfigError(f"--columns: unknown name {name!r}.{_nearest(name, known)}")
        named[SHORT_NAMES.get(name, name)] = column
    return named


def check_columns(path: Path, layout: Layout, header: Sequence[str]) -> None:
    """Raises `ConfigError` where a column is missing that no replay can do without."""
    missing = [column for column in layout.columns.values() if column not in header]
    missing += [name for name in LENGTHS if name not in layout.columns]
    twice = [name for name in layout.columns.values() if header.count(name) > 1]
    if twice:
        raise ConfigError(f"{path} has more than one column {twice[0]}; rename or drop one.")
    if not missing:
        return
    free = [column for column in header if column not in layout.columns.values()]
    if "rate_rps" in header or "counts" in header:
        raise ConfigError(
            f"{path} holds rates or length distributions, not requests; draw requests from such "
            "files with `fairlead workload make --servegen NAME`."
        )
    hints = "".join(_nearest(name, free, f" for {name}") for name in missing)
    raise ConfigError(
        f"{path} has no column {' and no column '.join(missing)}; it has: "
        f"{_listed(header)}.{hints} A trace of requests has prompt_tokens and "
        "output_tokens, and mostly arrival_s; other names are given with "
        "--columns arrival=NAME,prompt=NAME,output=NAME."
    )


def _listed(names: Sequence[str]) -> str:
    shown = [name if len(name) <= 40 else name[:37] + "..." for name in names[:30]]
    more = f" and {len(names) - 30} more" if len(names) > 30 else ""
    return (", ".join(shown) or "none") + more


def _nearest(name: str, known: Sequence[str], what: str = "") -> str:
    lower = {word.lower(): word for word in known}
    near = get_close_matches(name.lower(), list(lower), n=1, cutoff=0.6)
    return f" Did you mean {lower[near[0]]}{what}?" if near else ""
