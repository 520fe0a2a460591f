"""One request of a trace, as a value."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import overload

from fairlead.model.objective import Objective


# Not frozen: making a frozen one takes 3 µs instead of 0.4, and a simulation makes millions.
@dataclass(slots=True)
class TraceRow:
    """One request of a trace. Nobody changes one after it was made."""

    index: int
    """Its place in the file, from 0, skipped rows counted."""
    arrival_s: float | None
    """Seconds on the trace's clock; None where the trace has no common clock."""
    prompt_tokens: int
    output_tokens: int
    hash_ids: Sequence[int] = ()
    """Prefix blocks: equal ids mean equal content from the first token to the end of the block."""
    hash_block_tokens: int = 0
    session_id: str | None = None
    turn: int | None = None
    """Order of the call in its session, from 0."""
    agent_id: str | None = None
    model: str = ""
    tenant: str = ""
    """The source's client label (`client_id`)."""
    category: str = ""
    priority: int | None = None
    session_t_s: float | None = None
    """Seconds from the start of its own session."""
    tool_gap_s: float | None = None
    """Seconds its client stayed away before this call, from the end of its agent's call before."""
    src_e2e_s: float | None = None
    """Seconds that the call took on the system where the trace was taken."""
    objective: Objective | None = None
    """What it was promised; None where the trace does not say."""
    max_tokens: int | None = None
    """Output tokens that it allowed itself; None where the trace does not say."""
    shares_prefixes: bool = False
    """Whether its tenant has opted in to sharing cached prefixes with others that have."""

    @property
    def program(self) -> str | None:
        """The program it belongs to: its session."""
        return self.session_id


class IdRuns(Sequence[int]):
    """Ids that mostly count upwards, kept as runs: a session of long prompts has millions."""

    __slots__ = ("_ends", "_runs")

    def __init__(self, pairs: Sequence[int]) -> None:
        """`pairs` is first id, how many consecutive ids, first id, how many ..."""
        starts_and_sizes = zip(pairs[::2], pairs[1::2], strict=True)
        self._runs = tuple(range(first, first + n) for first, n in starts_and_sizes)
        self._ends = tuple(accumulate(map(len, self._runs)))

    @property
    def runs(self) -> tuple[range, ...]:
        return self._runs

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self._runs)

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[int, ...]: ...
    def __getitem__(self, place: int | slice) -> int | tuple[int, ...]:
        if isinstance(place, slice):
            return tuple(self)[place]
        place = range(len(self))[place]
        run = bisect_right(self._ends, place)
        return self._runs[run][place - self._ends[run]]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, IdRuns | tuple):
            return tuple(self) == tuple(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"IdRuns({[n for run in self._runs for n in (run.start, len(run))]})"
