"""Who looks on while a gateway serves, as its settings say: log, journal, traces, checks."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

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

    def __init__(self, gateway: Gateway, settings: ServeSettings, fleet: str, say: Voice) -> None:
        """`fleet` is its name. Raises `ConfigError`."""
        self._closing: list[Callable[[], None]] = []
        observers = gateway.driver.observers
        if settings.debug_invariants:
            observers.append(Checker().observe)
        if settings.log_format != "text":
            journal = Journal(say.event)
            observers.append(journal.observe)
            self._closing.append(journal.close)
        if settings.event_log:
            log = _event_log(settings.event_log, fleet, say)
            observers.append(log.observe)
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


def _event_log(path: str, fleet: str, say: Voice) -> EventLog:
    """Its times are the gateway's clock; the first line tells what that is by the wall's."""
    about = {"fleet": fleet, "clock_s": time.monotonic(), "wall_time_s": time.time()}
    return EventLog(LogFile(Path(path), about, say.aloud))
