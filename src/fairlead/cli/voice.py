"""What a serving process says: prose on stderr for people, or lines of JSON for a log collector."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

FORMATS = ("text", "json")


class Voice:
    """Prose. `aloud` is for what happened to the gateway, `detail` for what its workers say."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet

    def aloud(self, text: str) -> None:
        if not self._quiet:
            print(f"fairlead: {text}", file=sys.stderr, flush=True)

    def detail(self, line: str) -> None:
        if not self._quiet:
            print(f"  {line}", file=sys.stderr, flush=True)

    def event(self, level: str, event: str, **facts: Any) -> None:
        """Something structured, which prose leaves to the metrics and the event log."""


class JsonVoice(Voice):
    """A line of JSON each: `time`, `level`, `event` and facts."""

    def aloud(self, text: str) -> None:
        self.event("info", "gateway.says", message=text)

    def detail(self, line: str) -> None:
        self.event("info", "worker.says", message=line)

    def event(self, level: str, event: str, **facts: Any) -> None:
        if not self._quiet or level in ("warning", "error"):
            print(json_line(level, event, **facts), file=sys.stderr, flush=True)


def open_voice(log_format: str, quiet: bool) -> Voice:
    """The voice of that format; libraries' log records take it too."""
    if log_format == "text":
        return Voice(quiet)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    return JsonVoice(quiet)


def json_line(level: str, event: str, **facts: Any) -> str:
    """What is None is left out."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    given = {name: value for name, value in facts.items() if value is not None}
    return json.dumps({"time": now, "level": level, "event": event, **given}, default=str)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        error = self.formatException(record.exc_info) if record.exc_info else None
        facts = {"logger": record.name, "message": record.getMessage(), "error": error}
        return json_line(record.levelname.lower(), "log", **facts)
