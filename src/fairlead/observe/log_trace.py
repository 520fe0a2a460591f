"""An event log as a trace: who asked for how much and when, to be played against another fleet.

Requests arrive when they arrived, with their own objective and with the prefixes they shared. How
long an answer would have been is known of those that finished; a client that left counts as wanting
what it got. For those that were rejected or failed, or died with their gateway, a length is drawn
from the finished ones of their class: the same for the same log. Those that were under way when the
log ends are left out: nothing can be said of them yet.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fairlead.model import ConfigError, Objective
from fairlead.observe.read_log import Line, read_head, read_runs
from fairlead.workload.columns import TraceColumns
from fairlead.workload.draws import stream_key, uniform
from fairlead.workload.layouts import Layout
from fairlead.workload.parts import limited
from fairlead.workload.row import IdRuns
from fairlead.workload.trace import Trace

PART_ROWS = 4096
SAMPLE = 4096
"""Finished lengths that are kept of each class."""
UNDER_WAY = "it was under way when the log ends"
NO_LENGTH = "it did not finish, and nothing did from which to guess how long it would have been"
COLUMNS = ("arrival_s", "prompt_tokens", "output_tokens", "model", "client_id", "session_id")


@dataclass(slots=True)
class Logged:
    """A request of a log: how it came, and how it ended if it did."""

    asked: Line
    to_wall_s: float
    """To be added to times of its run, so that runs follow one another."""
    end: Line | None = None
    over: bool = False
    """Nothing more is said of it."""

    @property
    def arrival_s(self) -> float:
        return float(self.asked["arrival_s"]) + self.to_wall_s

    @property
    def finished(self) -> bool:
        end = self.end
        return end is not None and end["what"] == "complete" and end["outcome"] == "finished"

    @property
    def produced(self) -> int:
        return 0 if self.end is None else int(self.end.get("output_tokens", 0))

    @property
    def known_length(self) -> int | None:
        """Output tokens that it would have had anywhere."""
        end = self.end
        left = end is not None and end["what"] == "complete" and end["outcome"] == "cancelled"
        return max(self.produced, 1) if self.finished or left else None


def logged_requests(path: Path) -> Iterator[Logged]:
    """All requests of a log in order of arrival, each when it is known how it ended."""
    waiting: deque[Logged] = deque()
    under_way: dict[str, Logged] = {}
    to_wall_s = 0.0
    for line in read_runs(path):
        what = line["what"]
        if what == "log":
            for logged in under_way.values():
                logged.over = True
            under_way.clear()
            to_wall_s = float(line.get("wall_time_s", 0.0)) - float(line.get("clock_s", 0.0))
        elif what == "arrived":
            logged = Logged(line, to_wall_s)
            waiting.append(logged)
            under_way[line["request"]] = logged
        elif what in ("complete", "reject"):
            ended = under_way.pop(line["request"], None)
            if ended is not None:
                ended.end, ended.over = line, True
        while waiting and waiting[0].over:
            yield waiting.popleft()
    yield from waiting


class LogTrace(Trace):
    """A trace whose rows are the requests of an event log. Its clock starts with the first."""

    def __init__(self, path: Path) -> None:
        """Reads the log once. Raises `ConfigError` where it is none, or holds no request."""
        self.path = path
        self.name = str(path)
        self.metadata = {"fleet": str(read_head(path).get("fleet", ""))}
        self.skipped = Counter()
        self._lengths: dict[str, list[int]] = {}
        self._n_rows = 0
        self.n_guessed = 0
        """Rows whose length had to be drawn."""
        self._begun_s: float | None = None
        self._last_s = 0.0
        size = 0
        for logged in logged_requests(path):
            self._learn(logged)
            size = size or int(logged.asked.get("piece_tokens", 0))
        if self._begun_s is None:
            raise ConfigError(f"{path} tells of no request; there is nothing to play.")
        names = (*COLUMNS, "hash_runs") if size else COLUMNS
        self.layout = Layout("log", {name: name for name in names}, hash_block_tokens=size)

    @property
    def n_rows(self) -> int | None:
        return self._n_rows

    @property
    def begun_s(self) -> float:
        """When the first request arrived: seconds since 1970, of a gateway's log."""
        assert self._begun_s is not None
        return self._begun_s

    @property
    def duration_s(self) -> float:
        """From the first arrival to the last."""
        return self._last_s - self.begun_s

    def parts(
        self, only: Collection[str] | None = None, most: int | None = None
    ) -> Iterator[TraceColumns]:
        return limited(self._all_parts(), most)

    def _all_parts(self) -> Iterator[TraceColumns]:
        self.skipped = Counter()
        rows = self._rows()
        while part := list(islice(rows, PART_ROWS)):
            yield self._columns(part)

    def _learn(self, logged: Logged) -> None:
        if self._begun_s is None:
            self._begun_s = logged.arrival_s
        self._last_s = max(self._last_s, logged.arrival_s)
        self._n_rows += 1
        self.n_guessed += logged.over and logged.known_length is None
        if logged.finished:
            lengths = self._lengths.setdefault(logged.asked["objective"]["name"], [])
            if len(lengths) < SAMPLE:
                lengths.append(logged.produced)

    def _rows(self) -> Iterator[tuple[int, float, Logged, int]]:
        """Place, arrival, request and length of those that can be played."""
        last_s = 0.0
        for index, logged in enumerate(logged_requests(self.path)):
            # The fleet hears of requests a little after they arrive, and not always in that order.
            last_s = max(last_s, logged.arrival_s - self.begun_s)
            length = self._length(index, logged)
            if not logged.over:
                self.skipped[UNDER_WAY] += 1
            elif length is None:
                self.skipped[NO_LENGTH] += 1
            else:
                yield index, last_s, logged, length

    def _length(self, index: int, logged: Logged) -> int | None:
        if logged.known_length is not None:
            return logged.known_length
        lengths = self._lengths.get(logged.asked["objective"]["name"]) or [
            n for of_class in self._lengths.values() for n in of_class
        ]
        if not lengths:
            return None
        place = int(uniform(_KEY, index) * len(lengths))
        return max(min(lengths[place], int(logged.asked["max_tokens"])), logged.produced, 1)

    def _columns(self, rows: list[tuple[int, float, Logged, int]]) -> TraceColumns:
        size = self.layout.hash_block_tokens
        asked = [logged.asked for _, _, logged, _ in rows]
        others: dict[str, list[Any]] = {
            "model": [line.get("model", "") for line in asked],
            "tenant": [line.get("tenant", "") for line in asked],
            "shares_prefixes": [line.get("shares_prefixes", False) for line in asked],
            "session_id": [line.get("program") for line in asked],
            "priority": [line.get("priority") for line in asked],
            "objective": [Objective(**line["objective"]) for line in asked],
            "max_tokens": [line["max_tokens"] for line in asked],
            # Pools with blocks of different sizes cut prompts differently: one size is taken.
            "hash_ids": [
                IdRuns(line["blocks"]) if line.get("piece_tokens") == size else () for line in asked
            ],
        }
        return TraceColumns(
            index=np.array([index for index, *_ in rows], np.int64),
            arrival_s=np.array([arrival_s for _, arrival_s, *_ in rows], np.float64),
            prompt_tokens=np.array([line["prompt_tokens"] for line in asked], np.int64),
            output_tokens=np.array([length for *_, length in rows], np.int64),
            hash_block_tokens=size,
            others=others,
        )


_KEY = stream_key(0, "lengths of a log")
