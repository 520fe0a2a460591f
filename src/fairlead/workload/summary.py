"""The figures of a run: one schema for replay, simulate, compare and the live report."""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.workload.figures import (
    GroupFigures,
    InstanceFigures,
    ProgramFigures,
    RunFacts,
    Summary,
)
from fairlead.workload.percentiles import Percentiles
from fairlead.workload.records import Columns, RecordColumns, RequestRecord
from fairlead.workload.tally import Tally

__all__ = [
    "GroupFigures",
    "InstanceFigures",
    "ProgramFigures",
    "RunFacts",
    "Summary",
    "summarize",
]


def summarize(
    records: Iterable[RequestRecord] | Columns,
    facts: RunFacts | None = None,
    *,
    itl_s: Percentiles | None = None,
    warmup_s: float = 0.0,
) -> Summary:
    """The Summary of these requests; their order does not matter.

    `itl_s` is for runs that counted gaps between tokens as they came, see `Histogram`. Requests
    that arrived in the first `warmup_s` are left out of every figure, and the Summary says so.
    """
    columns = records if isinstance(records, Columns) else RecordColumns(records).columns()
    start_s = float(columns.arrival_s.min()) if len(columns) else 0.0
    tally = Tally(start_s, warmup_s, exact=len(columns) + len(columns.gaps_s))
    tally.add(columns)
    return tally.summary(facts or RunFacts(), itl_s)
