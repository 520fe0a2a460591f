"""What is done to the rows of a trace as they stream by, part after part. Never another order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby, islice

import numpy as np

from fairlead.workload.columns import TraceColumns


@dataclass(frozen=True, slots=True)
class Extent:
    """How many rows there are, when the first and the last arrive, and how many sessions."""

    n_rows: int
    first_s: float
    last_s: float
    n_sessions: int = 0
    together: bool = True
    """The rows of each session stand together in the file."""

    @property
    def rate_rps(self) -> float:
        """Mean rate: gaps over the time they take; infinite where all arrive at once."""
        span_s = self.last_s - self.first_s
        return (self.n_rows - 1) / span_s if span_s > 0 else math.inf


def windowed(
    parts: Iterable[TraceColumns], window_s: tuple[float, float] | None
) -> Iterator[TraceColumns]:
    """Rows that arrive inside the window; reading stops at its end."""
    for part in parts:
        if window_s is None or part.arrival_s is None:
            yield part
            continue
        start, stop = np.searchsorted(part.arrival_s, window_s).tolist()
        if start < stop:
            yield part.part(start, stop)
        if stop < len(part):
            return


def limited(parts: Iterable[TraceColumns], limit: int | None) -> Iterator[TraceColumns]:
    """The first so many rows; nothing more is read."""
    left = limit
    for part in parts:
        if left is None:
            yield part
            continue
        yield part.part(0, left)
        left -= len(part)
        if left <= 0:
            return


def extent(parts: Iterable[TraceColumns]) -> Extent:
    """Counts rows and sessions, and finds the first and last arrival."""
    n = n_sessions = 0
    first_s = last_s = 0.0
    seen: set[str] = set()
    last, together = None, True
    for part in parts:
        if part.arrival_s is not None:
            last_s = float(part.arrival_s[-1])
            first_s = float(part.arrival_s[0]) if n == 0 else first_s
        n += len(part)
        for session, _ in groupby(part.others.get("session_id", ())):
            if session is None:
                continue
            together &= session == last or session not in seen
            n_sessions += session not in seen
            seen.add(session)
            last = session
    return Extent(n, first_s, last_s, n_sessions, together)


def retimed(
    parts: Iterable[TraceColumns], first_s: float, stretch: float
) -> Iterator[TraceColumns]:
    """The same rows, the first at 0 and all gaps multiplied by `stretch`."""
    for part in parts:
        assert part.arrival_s is not None
        yield replace(part, arrival_s=(part.arrival_s - first_s) * stretch)


def drawn(parts: Iterable[TraceColumns], times: Iterator[float]) -> Iterator[TraceColumns]:
    """The same rows in the same order at these times."""
    for part in parts:
        yield replace(part, arrival_s=np.fromiter(islice(times, len(part)), np.float64, len(part)))
