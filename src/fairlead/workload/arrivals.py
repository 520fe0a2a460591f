"""What a driver asks of a workload: who comes when, and who comes next once a request has ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from fairlead.workload.row import TraceRow


class Arrivals(Protocol):
    """A workload for a driver, be it the simulator or the load client.

    The driver plays `rows` at their `arrival_s`, and tells `follow` of every request that ended.
    It is for the driver to say whether a request that was rejected or failed counts as ended: then
    its session goes on as if it had been answered; if `follow` is not called its session is over.
    """

    def rows(self) -> Iterator[TraceRow]:
        """Requests whose arrival is known in advance, in order of arrival."""
        ...

    def follow(self, row: TraceRow, ended_s: float) -> TraceRow | None:
        """The request that its session sends because this one ended at `ended_s`, with an
        `arrival_s` at or after that; None where there is none. Call once for each request."""
        ...
