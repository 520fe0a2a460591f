"""Takes the records of a run of any length: a short one is held whole, a long one summed up."""

from __future__ import annotations

from fairlead.workload.figures import RunFacts, Summary
from fairlead.workload.percentiles import Percentiles
from fairlead.workload.records import Columns, RecordColumns, RequestRecord
from fairlead.workload.tally import Tally

HELD = 100_000
"""Records that are held one by one, and up to which percentiles are exact. About 13 MB."""


class Recorder:
    """See the module. The first `HELD` records can be had one by one; all count in the Summary."""

    def __init__(self, held: int = HELD) -> None:
        self.warmup_s = 0.0
        """Requests of the run's first seconds, so many, count nowhere. To be set beforehand."""
        self._held = held
        self._fresh = RecordColumns()
        self._append = self._fresh.append
        self._first: Columns | None = None
        self._tally: Tally | None = None

    def append(self, record: RequestRecord) -> None:
        self._append(record)
        if len(self._fresh) >= self._held:
            self._sum_up()

    def columns(self) -> Columns:
        """The first records of the run: all of them where they are no more than `HELD`."""
        return self._fresh.columns() if self._first is None else self._first

    def summary(self, facts: RunFacts, itl_s: Percentiles | None = None) -> Summary:
        """The figures of all records. `itl_s` is for a run that counted gaps itself."""
        return self._sum_up().summary(facts, itl_s)

    def _sum_up(self) -> Tally:
        fresh = self._fresh.take()
        if self._first is None:
            self._first = fresh
            start_s = float(fresh.arrival_s.min()) if len(fresh) else 0.0
            self._tally = Tally(start_s, self.warmup_s, self._held)
        assert self._tally is not None
        self._tally.add(fresh)
        return self._tally
