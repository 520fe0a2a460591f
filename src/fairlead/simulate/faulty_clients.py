"""Clients that leave early, and that come in bursts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import log

from fairlead.fleet import Fleet
from fairlead.fleet.config import FleetConfig
from fairlead.model import Arrived, RequestId
from fairlead.simulate.clients import Clients
from fairlead.simulate.faults import Faults
from fairlead.simulate.heap import Heap
from fairlead.simulate.schedule import Bursts
from fairlead.simulate.settings import Settings
from fairlead.workload.draws import stream_key, uniform
from fairlead.workload.trace import TraceRow


class FaultyClients(Clients):
    """True lengths are kept for good: an instance may work on what ended long ago."""

    def __init__(
        self,
        faults: Faults,
        config: FleetConfig,
        seed: int,
        heap: Heap,
        settings: Settings,
        fleet: Fleet,
        tell: Callable[[Arrived], None],
    ) -> None:
        super().__init__(config, seed, heap, settings, fleet, tell)
        self._bursts = Bursts(faults.burst, seed)
        self._hang_ups = [
            (hang_up, stream_key(seed, f"hang_up {i}")) for i, hang_up in enumerate(faults.hang_up)
        ]

    def patience_s(self, id: RequestId) -> float | None:
        """For how long its client will wait from now on; None if it waits to the end."""
        row, now, patience_s = self.open[id].row, self._heap.now, None
        for hang_up, key in self._hang_ups:
            leaves = uniform(key, 2 * row.index) < hang_up.share
            if leaves and hang_up.from_s <= now < hang_up.until_s:
                waits_s = -hang_up.after_s * log(1.0 - uniform(key, 2 * row.index + 1))
                patience_s = waits_s if patience_s is None else min(patience_s, waits_s)
        return patience_s

    def _in_time(self, rows: Iterator[TraceRow]) -> Iterator[TraceRow]:
        return self._bursts.apply(rows)

    def _forget_length(self, id: RequestId) -> None:
        pass
