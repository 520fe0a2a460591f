"""A trace by name, for processes that each open it for themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fairlead.observe.log_trace import LogTrace
from fairlead.observe.read_log import is_log
from fairlead.workload.shape import Shape, ShapedTrace
from fairlead.workload.trace import Trace, open_trace


@dataclass(frozen=True, slots=True)
class TraceSource:
    """Where a trace lies; every process opens it for itself."""

    name: str
    """A path, of a trace or of an event log; or the name of a shipped trace."""
    columns: Mapping[str, str] | None = None
    sort: bool = False

    def shaped(
        self, shape: Shape, seed: int = 0, *, timed: bool = True, closed_loop: bool = True
    ) -> ShapedTrace:
        """Opens it. With `closed_loop` the calls of a session wait for one another. Raises
        `ConfigError` where it cannot be played."""
        return ShapedTrace(self.open(), shape, seed, timed, closed_loop)

    def open(self) -> Trace:
        """An event log is a trace, too. Raises `ConfigError`."""
        path = Path(self.name)
        if self.columns is None and is_log(path):
            return LogTrace(path)
        return open_trace(self.name, self.columns, self.sort)
