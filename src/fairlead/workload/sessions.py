"""Sessions in a closed loop: a call is sent some time after the one before it has ended.

The calls of a session make one chain in order of `turn`, so a slow fleet sees later arrivals.
Sub-agents (`agent_id`) stand in that chain where they stood in the source: the traces show that one
starts after a call of the main agent has ended, and that the main agent waits for it. The few calls
that overlapped there (sub-agents side by side, half a percent in `agentic_coding`) follow one
another here, without a gap.

The gap before a call is, in this order:

1. `tool_gap_s`, where the call before it in the chain is its own agent's last;
2. else, where starts are known (`session_t_s`), the time from the end of the call before it. Where
   the source does not say how long that one took (`src_e2e_s`), it counts `ASSUMED_TPOT_S` for each
   token of its output;
3. else `tool_gap_s` all the same;
4. else a think time drawn from the seed.

Only sessions under way are held, and one that is about to start, where a file keeps the rows of a
session together. Where it does not, all rows are held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, pairwise

import numpy as np

from fairlead.workload.columns import TraceColumns
from fairlead.workload.generate.lengths import Distribution, Exponential
from fairlead.workload.row import TraceRow

ASSUMED_TPOT_S = 0.008
"""The quickest twentieth of the calls in `agents_lmcache` were followed by the next after so long
for each token of their output, so calls took about this and clients hardly paused."""
THINK = Exponential(5.0)
"""Seconds between calls where a trace says nothing: a user who reads a little."""


class Sessions:
    """The sessions of a trace, each started at a time from `starts`. For one run: what is under
    way is kept here."""

    def __init__(
        self,
        parts: Callable[[], Iterator[TraceColumns]],
        starts: Callable[[], Iterator[float]],
        thinking: Callable[[], np.random.Generator],
        *,
        think: Distribution = THINK,
        speed: float = 1.0,
        together: bool = True,
        assumed_tpot_s: float = ASSUMED_TPOT_S,
    ) -> None:
        """`starts` and `thinking` make their draws anew for every reading. `together` says that
        the rows of a session stand together in the file."""
        self._parts = parts
        self._starts = starts
        self._thinking = thinking
        self._think = think
        self._speed = speed
        self._together = together
        self._assumed_tpot_s = assumed_tpot_s
        self._coming: dict[str, deque[tuple[float, TraceRow]]] = {}

    @property
    def n_under_way(self) -> int:
        """Sessions with calls yet to come."""
        return len(self._coming)

    def rows(self) -> Iterator[TraceRow]:
        """The first call of each session."""
        self._coming.clear()
        starts, rng = self._starts(), self._thinking()
        for calls in self._sessions():
            ordered = sorted(calls, key=lambda row: row.index if row.turn is None else row.turn)
            gaps = [self._gap_s(a, b, rng) for a, b in pairwise(ordered)]
            first, *later = ordered
            if later:
                assert first.session_id is not None
                self._coming[first.session_id] = deque(zip(gaps, later, strict=True))
            first.arrival_s = next(starts)  # a row of ours until it is handed out
            yield first

    def follow(self, row: TraceRow, ended_s: float) -> TraceRow | None:
        coming = self._coming.get(row.session_id) if row.session_id is not None else None
        if not coming:
            return None
        gap_s, call = coming.popleft()
        if not coming and call.session_id is not None:
            del self._coming[call.session_id]
        call.arrival_s = ended_s + gap_s
        return call

    def _sessions(self) -> Iterator[list[TraceRow]]:
        rows = (row for part in self._parts() for row in part.rows())
        if self._together:
            # A row without a session stands alone.
            for _, calls in groupby(rows, key=lambda row: row.session_id or row.index):
                yield list(calls)
        else:
            yield from _gathered(rows)

    def _gap_s(self, before: TraceRow, row: TraceRow, rng: np.random.Generator) -> float:
        gap_s = known_gap_s(before, row, self._assumed_tpot_s)
        if gap_s is None:
            gap_s = float(self._think.draw(rng, 1)[0])
        return gap_s / self._speed


def known_gap_s(
    before: TraceRow, row: TraceRow, assumed_tpot_s: float = ASSUMED_TPOT_S
) -> float | None:
    """Seconds from the end of the call before to this one, as far as the trace says."""
    next_turn = before.turn is None or row.turn is None or row.turn == before.turn + 1
    if row.tool_gap_s is not None and next_turn and row.agent_id == before.agent_id:
        return max(row.tool_gap_s, 0.0)
    if row.session_t_s is not None and before.session_t_s is not None:
        took_s = before.src_e2e_s
        if took_s is None:
            took_s = before.output_tokens * assumed_tpot_s
        return max(row.session_t_s - before.session_t_s - took_s, 0.0)
    return None if row.tool_gap_s is None else max(row.tool_gap_s, 0.0)


def _gathered(rows: Iterable[TraceRow]) -> Iterator[list[TraceRow]]:
    """All rows by session, in order of first appearance; a row without one stands alone."""
    sessions: dict[str | int, list[TraceRow]] = {}
    for row in rows:
        key = row.index if row.session_id is None else row.session_id
        sessions.setdefault(key, []).append(row)
    yield from sessions.values()
