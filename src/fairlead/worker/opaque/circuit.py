"""When a server counts as down, and when it is asked again. Reads no clock."""

from __future__ import annotations

MAX_FAILURES = 3
"""Requests in a row that a server may fail at before it counts as down, though it says that it is
well: one may be the request's own fault."""
FIRST_PAUSE_S = 0.5
LAST_PAUSE_S = 30.0
"""Pauses between attempts double from the first to the last: a server that restarts is found again
within a fraction of its own start-up time."""
STEADY_S = 60.0
"""A server that was well for so long is trusted again: its next fall begins with short pauses."""


class Circuit:
    """Closed while requests may flow. A server that falls again soon after it has come back waits
    longer each time, so that one that flaps does not tear the same streams over and over."""

    def __init__(self) -> None:
        self._failures = 0
        self._falls = 0
        self._closed_s: float | None = None
        self.down = ""
        """Why it counts as down; empty while it does not."""

    @property
    def closed(self) -> bool:
        return self._closed_s is not None

    def succeeded(self) -> None:
        """A request got a token."""
        self._failures = 0

    def failed(self) -> bool:
        """A request failed; True where that is once too often."""
        self._failures += 1
        return self._failures >= MAX_FAILURES

    def open(self, why: str, now: float) -> None:
        """It is down."""
        if self._closed_s is not None and now - self._closed_s >= STEADY_S:
            self._falls = 0
        self._closed_s = None
        self._falls += 1
        self.down = why

    def close(self, now: float) -> None:
        """It is well."""
        self._failures = 0
        self._closed_s = now
        self.down = ""

    def pause_s(self, attempt: int) -> float:
        """How long to wait before the attempt of this number, counted from 0, since it fell."""
        doublings = min(attempt + max(self._falls - 1, 0), 16)
        return min(FIRST_PAUSE_S * 2.0**doublings, LAST_PAUSE_S)
