"""Reads an event log back, line by line."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from fairlead.model import ConfigError
from fairlead.observe.log_file import FORMAT, parts

Line = dict[str, Any]
KNOWN_IDS = 50_000
"""Ids that are compared with one that is not in the log; more would take long and help little."""
LONGEST_HEAD = 1 << 20

_decode = msgspec.json.Decoder(Line).decode


def read_log(path: Path) -> Iterator[Line]:
    """The lines of a log's last run, those of its older parts first. A last line that is still
    being written is left out. Raises `ConfigError` where it is no log."""
    last = read_head(path)
    for part in parts(path):
        if read_head(part) == last:
            yield from _lines(part)


def read_runs(path: Path) -> Iterator[Line]:
    """The lines of all its runs, one after the other, each with its first line (`what` is `log`):
    times mean something else after it. Otherwise as `read_log`."""
    before = None
    for part in parts(path):
        head = read_head(part)
        if head != before:
            yield head
        before = head
        yield from _lines(part)


def is_log(path: Path) -> bool:
    """Whether a file begins like an event log."""
    try:
        with path.open("rb") as file:
            return _head(file) is not None
    except OSError:
        return False


def read_head(path: Path) -> Line:
    """The first line of a log. Raises `ConfigError` where it is none that can be read here."""
    try:
        with path.open("rb") as file:
            head = _head(file)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}.") from error
    if head is None:
        raise ConfigError(
            f"{path} is no event log; `fairlead simulate TRACE --fleet FLEET.toml --log FILE` "
            "writes one, and so does a gateway whose [gateway] event_log names a file."
        )
    if head.get("format") != FORMAT:
        raise ConfigError(
            f"{path} is an event log of format {head.get('format')}, written by Fairlead "
            f"{head.get('fairlead')}; this one reads format {FORMAT}."
        )
    return head


def _head(file: BinaryIO) -> Line | None:
    text = file.readline(LONGEST_HEAD)
    if not text.startswith(b"{"):
        return None
    try:
        head = _decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return head if head.get("what") == "log" else None


def _lines(part: Path) -> Iterator[Line]:
    with part.open("rb") as file:
        for number, text in enumerate(file, start=1):
            if not text.endswith(b"\n"):
                return
            try:
                line = _decode(text)
            except msgspec.MsgspecError as error:
                raise ConfigError(f"{part}, line {number} is broken: {error}.") from error
            if line.get("what") != "log":
                yield line


def not_in_log(path: Path, id: str, known: dict[str, None]) -> ConfigError:
    """What to say of an id that no line mentions."""
    if not known:
        return ConfigError(f"{path} mentions no request and no instance.")
    near = get_close_matches(id, known, n=3) or [i for i in known if i.lower() == id.lower()]
    near = near or ([f"r{id}"] if f"r{id}" in known else [])
    first = next(iter(known))
    hint = f"did you mean {' or '.join(near)}?" if near else f"it knows ids such as {first}."
    return ConfigError(f"{path} mentions no request or instance {id!r}; {hint}")
