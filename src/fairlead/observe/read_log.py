"""Reads an event log back, line by line."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from fairlead.model import ConfigError
from fairlead.observe.log_file import FORMAT, older

Line = dict[str, Any]
KNOWN_IDS = 50_000
"""Ids that are compared with one that is not in the log; more would take long and help little."""


def read_log(path: Path) -> Iterator[Line]:
    """The lines of a log, those of its older part first. A last line that is still being written
    is left out. Raises `ConfigError` where it is no log."""
    _check_head(path)
    decode = msgspec.json.Decoder(Line).decode
    for part in (older(path), path):
        if not part.exists():
            continue
        with part.open("rb") as file:
            for number, text in enumerate(file, start=1):
                if not text.endswith(b"\n"):
                    return
                try:
                    line = decode(text)
                except msgspec.MsgspecError as error:
                    raise ConfigError(f"{part}, line {number} is broken: {error}.") from error
                if line.get("what") != "log":
                    yield line


def _check_head(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = msgspec.json.decode(file.readline(1 << 20))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}.") from error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        head = None
    if not isinstance(head, dict) or head.get("what") != "log":
        raise ConfigError(
            f"{path} is no event log; `fairlead simulate TRACE --fleet FLEET.toml --log FILE` "
            "writes one, and so does a gateway whose [gateway] event_log names a file."
        )
    if head.get("format") != FORMAT:
        raise ConfigError(
            f"{path} is an event log of format {head.get('format')}, written by Fairlead "
            f"{head.get('fairlead')}; this one reads format {FORMAT}."
        )


def not_in_log(path: Path, id: str, known: dict[str, None]) -> ConfigError:
    """What to say of an id that no line mentions."""
    if not known:
        return ConfigError(f"{path} mentions no request and no instance.")
    near = get_close_matches(id, known, n=3) or [i for i in known if i.lower() == id.lower()]
    near = near or ([f"r{id}"] if f"r{id}" in known else [])
    first = next(iter(known))
    hint = f"did you mean {' or '.join(near)}?" if near else f"it knows ids such as {first}."
    return ConfigError(f"{path} mentions no request or instance {id!r}; {hint}")
