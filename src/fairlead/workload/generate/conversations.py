"""Conversations of several turns, each prompt all that was said before and something new."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairlead.workload.columns import TraceColumns
from fairlead.workload.generate.lengths import Distribution, draw_tokens
from fairlead.workload.generate.open_loop import LengthDraw, Lengths
from fairlead.workload.generate.sharing import Ids, Sharing
from fairlead.workload.generate.streams import stream

TOGETHER = 256
"""Conversations drawn at a time."""


@dataclass(frozen=True, slots=True)
class Conversations:
    """Sessions for a closed loop: when they start is chosen by whoever plays them."""

    n_sessions: int
    turns: Distribution
    lengths: Lengths
    """What is new in each turn, and its answer."""
    gap: Distribution
    """Seconds from the end of an answer to the next turn."""
    seed: int = 0
    sharing: Sharing | None = None
    block_tokens: int = 16
    most_prompt_tokens: int = 131_072
    """A conversation ends before its prompt would grow beyond this."""

    def parts(self) -> Iterator[TraceColumns]:
        """All turns of a session stand together."""
        maker = _Maker(self)
        for first in range(0, self.n_sessions, TOGETHER):
            columns = maker.sessions(first, min(TOGETHER, self.n_sessions - first))
            if len(columns):
                yield columns


class _Maker:
    def __init__(self, wanted: Conversations) -> None:
        self._wanted = wanted
        self._turns = stream(wanted.seed, "turns")
        self._gaps = stream(wanted.seed, "gaps")
        self._prefixes = stream(wanted.seed, "prefixes")
        self._lengths: LengthDraw = wanted.lengths.draw(wanted.seed)
        sharing = wanted.sharing
        self._prefix_tokens = sharing.prefix_tokens() if sharing else 0
        self._next_id = 1 + (sharing.n_ids(wanted.block_tokens) if sharing else 0)
        self._index = 0

    def sessions(self, first: int, n: int) -> TraceColumns:
        wanted = self._wanted
        turns = draw_tokens(wanted.turns, self._turns, n).tolist()
        prefixes: Any = [()] * n
        if wanted.sharing is not None:
            prefixes = wanted.sharing.draw(self._prefixes, n, wanted.block_tokens)
        rows = [
            row for k in range(n) for row in self._session(f"s{first + k}", turns[k], prefixes[k])
        ]
        return self._columns(rows)

    def _session(self, name: str, n_turns: int, prefix: Ids) -> Iterator[Mapping[str, Any]]:
        wanted, ids, history = self._wanted, list(prefix), self._prefix_tokens
        new, output = (lengths.tolist() for lengths in self._lengths(n_turns))
        gaps = wanted.gap.draw(self._gaps, n_turns).tolist()
        for turn in range(n_turns):
            prompt = history + new[turn]
            if prompt > wanted.most_prompt_tokens and turn:
                return
            while len(ids) < prompt // wanted.block_tokens:
                ids.append(self._next_id)
                self._next_id += 1
            yield {
                "prompt_tokens": prompt,
                "output_tokens": output[turn],
                "session_id": name,
                "turn": turn,
                "tool_gap_s": round(gaps[turn], 6) if turn else None,
                "hash_ids": tuple(ids),
            }
            history = prompt + output[turn]

    def _columns(self, rows: list[Mapping[str, Any]]) -> TraceColumns:
        index = np.arange(self._index, self._index + len(rows))
        self._index += len(rows)
        names = ("session_id", "turn", "tool_gap_s", "hash_ids")
        return TraceColumns(
            index,
            None,
            np.array([row["prompt_tokens"] for row in rows], dtype=np.int64),
            np.array([row["output_tokens"] for row in rows], dtype=np.int64),
            self._wanted.block_tokens,
            {name: [row[name] for row in rows] for name in names},
        )
