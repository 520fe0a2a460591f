"""What a trace is like, found in one pass: load, lengths, sessions, tenants, shared prefixes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fairlead.workload.columns import TraceColumns
from fairlead.workload.stream_counts import Busiest, Gaps, LengthCounts, RateBins, Reuse

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
RATE_BINS = 60
"""Parts of the span whose rate is told."""
LENGTH_EDGES = tuple(2**k for k in range(27))
TOP_TENANTS = 10
MS = 1000
"""Gaps are counted in whole milliseconds."""


class Description:
    """Grows with every part of a trace that is added, in order."""

    def __init__(self) -> None:
        self._prompt = LengthCounts()
        self._output = LengthCounts()
        self._first_s: float | None = None
        self._last_s = 0.0
        self._gaps = Gaps()
        self._bins = RateBins()
        self._second = Busiest(1.0)
        self._minute = Busiest(60.0)
        self._tenants: Counter[str] = Counter()
        self._models: Counter[str] = Counter()
        self._turns: Counter[str] = Counter()
        self._agents: set[tuple[str, str]] = set()
        self._tool_gaps_ms = LengthCounts()
        self._reuse = Reuse()
        self._reusable_tokens = 0
        self._hash_block_tokens = 0

    @property
    def n_rows(self) -> int:
        return self._prompt.n

    def add(self, part: TraceColumns) -> None:
        self._prompt.add(part.prompt_tokens)
        self._output.add(part.output_tokens)
        if part.arrival_s is not None:
            self._add_arrivals(part.arrival_s)
        others = part.others
        self._tenants.update(filter(None, others.get("tenant", ())))
        self._models.update(filter(None, others.get("model", ())))
        sessions = others.get("session_id", ())
        self._turns.update(filter(None, sessions))
        agents = zip(sessions, others.get("agent_id", ()), strict=False)
        self._agents.update((session, agent) for session, agent in agents if session and agent)
        gaps = [gap for gap in others.get("tool_gap_s", ()) if gap is not None]
        if gaps:
            capped = np.clip(np.array(gaps), 0, 1e9)
            self._tool_gaps_ms.add(np.rint(capped * MS).astype(np.int64))
        if "hash_ids" in others:
            self._hash_block_tokens = part.hash_block_tokens
            for ids, n_tokens in zip(others["hash_ids"], part.prompt_tokens.tolist(), strict=True):
                self._reusable_tokens += min(
                    self._reuse.add(ids) * part.hash_block_tokens, n_tokens
                )

    def _add_arrivals(self, arrival_s: Any) -> None:
        if self._first_s is None:
            self._first_s = float(arrival_s[0])
        since_s = arrival_s - self._first_s
        self._last_s = float(arrival_s[-1])
        for tally in (self._gaps, self._bins, self._second, self._minute):
            tally.add(since_s)

    def to_json(self) -> dict[str, Any]:
        """Everything that was found; null where the trace does not say."""
        return {
            "rows": self.n_rows,
            "arrivals": self._arrivals(),
            "prompt_tokens": _lengths(self._prompt),
            "output_tokens": _lengths(self._output),
            "sessions": self._sessions(),
            "tenants": _shares(self._tenants),
            "models": _shares(self._models),
            "prefixes": self._prefixes(),
        }

    def _arrivals(self) -> dict[str, Any] | None:
        if self._first_s is None:
            return None
        span_s = self._last_s - self._first_s
        rate = (self.n_rows - 1) / span_s if span_s > 0 else None
        return {
            "first_s": self._first_s,
            "span_s": span_s,
            "rate_rps": rate,
            "gap_cv": self._gaps.cv,
            "busiest_second": self._second.most / rate if rate else None,
            "busiest_minute": self._minute.most / 60 / rate if rate and span_s >= 120 else None,
            "rate_over_time_rps": self._bins.rates(span_s, RATE_BINS) if rate else [],
        }

    def _sessions(self) -> dict[str, Any] | None:
        if not self._turns:
            return None
        turns = LengthCounts()
        turns.add(np.array(list(self._turns.values())))
        return {
            "total": turns.n,
            "turns": _lengths(turns, histogram=False),
            "agents": len(self._agents) or None,
            "gap_s": _seconds(self._tool_gaps_ms),
        }

    def _prefixes(self) -> dict[str, Any] | None:
        reuse = self._reuse
        if not reuse.blocks:
            return None
        return {
            "block_tokens": self._hash_block_tokens,
            "blocks": reuse.blocks,
            "reusable_blocks": reuse.reusable / reuse.blocks,
            "reusable_tokens": self._reusable_tokens / self._prompt.total,
        }


def describe(
    parts: Iterable[TraceColumns], progress: Callable[[int], None] | None = None
) -> Description:
    """Describes a trace. `progress` hears of each part how far into the file it reaches, in rows,
    those left out included."""
    description = Description()
    for part in parts:
        description.add(part)
        if progress is not None:
            progress(int(part.index[-1]) + 1)
    return description


def _lengths(counts: LengthCounts, histogram: bool = True) -> dict[str, Any]:
    found: dict[str, Any] = {"mean": counts.mean}
    found |= {name: counts.quantile(q) for name, q in QUANTILES.items()}
    if histogram:
        bins = counts.bins(LENGTH_EDGES) if counts.n else []
        found["histogram"] = {
            str(edge): n for edge, n in zip(LENGTH_EDGES, bins, strict=False) if n
        }
    return found


def _seconds(counts: LengthCounts) -> dict[str, Any] | None:
    if not counts.n or counts.mean is None:
        return None
    quantiles = {name: (counts.quantile(q) or 0) / MS for name, q in QUANTILES.items()}
    return {"mean": counts.mean / MS, **quantiles}


def _shares(counts: Counter[str]) -> dict[str, Any] | None:
    """How many there are, and the largest with their shares of all rows that name one."""
    if not counts:
        return None
    total = counts.total()
    largest = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:TOP_TENANTS]
    return {"total": len(counts), "largest": {name: n / total for name, n in largest}}
