"""Who looks on while a gateway serves, as its settings say: log, journal, traces, checks."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from fairlead.cli.serve_settings import ServeSettings
from fairlead.cli.voice import Voice
from fairlead.gateway.app import Gateway
from fairlead.observe.invariants import Checker
from fairlead.observe.journal import Journal
from fairlead.observe.log import EventLog
from fairlead.observe.log_file import LogFile
from fairlead.observe.otlp import open_traces


class Observers:
    """Those that the settings ask for, shown everything that the gateway's fleet hears and does."""

    def __init__(
        self, gateway: Gateway, settings: ServeSettings, about: Mapping[str, Any], say: Voice
    ) -> None:
        """`about` is the fleet: its name, its policies. Raises `ConfigError`."""
        self._closing: list[Callable[[], None]] = []
        self.flush: Callable[[], None] = _nothing
        """Sees to it that the event log is on the disk."""
        observers = gateway.driver.observers
        if settings.debug_invariants:
            observers.append(Checker().observe)
        if settings.log_format != "text":
            journal = Journal(say.event)
            observers.append(journal.observe)
            self._closing.append(journal.close)
        if settings.event_log:
            log = _event_log(settings, about, say)
            observers.append(log.observe)
            self.flush = log.flush
            self._closing.append(log.close)
        if settings.otlp:
            traces = open_traces(settings.otlp, time.time() - time.monotonic())
            observers.append(traces.observe)
            gateway.app.linked = traces.link
            self._closing.append(traces.close)

    def close(self) -> None:
        """Writes and sends what is left. May take a few seconds where a collector is away."""
        for close in self._closing:
            close()


def _nothing() -> None:
    """There is no log."""


def _event_log(settings: ServeSettings, about: Mapping[str, Any], say: Voice) -> EventLog:
    """Its times are the gateway's clock; the first line tells what that is by the wall's. What an
    earlier gateway wrote stays, as long as there is room."""
    head = {**about, "clock_s": time.monotonic(), "wall_time_s": time.time()}
    max_bytes = int(settings.event_log_gib * 2**30)
    file = LogFile(Path(settings.event_log), head, say.aloud, max_bytes, keep=True)
    key = secrets.token_bytes(16)

    def pseudonym(name: str) -> str:
        return "p" + blake2b(name.encode(), key=key, digest_size=6).hexdigest()

    return EventLog(file, pseudonym)
