"""What vLLM's model runner knows of our sequences, and what it has to be told before a step.

The runner keeps prompt, tokens, block numbers and sampling parameters of everybody it has met, and
is told changes only. A sequence is met under a fresh name whenever its blocks are others than
before: at its first step, and after a preemption. So nothing that the runner knows is ever
corrected, and a name that has gone does not come back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from fairlead.instance.sequence import Sequence
from fairlead.model import RequestId, Row


@dataclass(slots=True)
class Resident:
    """A sequence by the name that the runner has for it."""

    name: str
    sequence: Sequence
    n_preemptions: int
    n_blocks: int = 0
    """Blocks that the runner has been told of."""


@dataclass(slots=True)
class Part:
    """A row, and what the runner is told with it."""

    row: Row
    resident: Resident
    is_new: bool
    blocks: Seq[int]
    """All of a new one's; else those that came since."""


@dataclass(slots=True)
class Told:
    parts: list[Part] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)


class Residents:
    """Used by the engine's thread, but for `forget`."""

    def __init__(self) -> None:
        self._residents: dict[RequestId, Resident] = {}
        self._forgotten: deque[RequestId] = deque()
        self._n_met = 0

    def tell(self, rows: Seq[Row], sequences: Mapping[RequestId, Sequence]) -> Told:
        """What to say for a pass over these rows; afterwards it counts as said."""
        told = Told()
        self._let_go(told)
        for row in rows:
            sequence = sequences[row.request]
            resident = self._residents.get(row.request)
            is_new = resident is None or not _is_same(resident, sequence)
            if resident is None or is_new:
                if resident is not None:
                    told.gone.add(resident.name)
                resident = self._meet(sequence)
            told.parts.append(Part(row, resident, is_new, _new_blocks(resident)))
        return told

    def forget(self, request_id: RequestId) -> None:
        """The sequence has left; unknown ids are fine. From any thread."""
        self._forgotten.append(request_id)

    def _let_go(self, told: Told) -> None:
        while self._forgotten:
            resident = self._residents.pop(self._forgotten.popleft(), None)
            if resident is not None:
                told.gone.add(resident.name)

    def _meet(self, sequence: Sequence) -> Resident:
        self._n_met += 1
        resident = Resident(f"{self._n_met}", sequence, sequence.n_preemptions)
        self._residents[sequence.id] = resident
        return resident


def _is_same(resident: Resident, sequence: Sequence) -> bool:
    return resident.sequence is sequence and resident.n_preemptions == sequence.n_preemptions


def _new_blocks(resident: Resident) -> Seq[int]:
    known, resident.n_blocks = resident.n_blocks, resident.sequence.held_blocks
    return resident.sequence.blocks[known:] if resident.n_blocks > known else ()


def passes(rows: Seq[Row], most_tokens: int) -> list[list[Row]]:
    """The rows in passes of at most `most_tokens` tokens, in their order. A row is cut where it
    does not fit, and samples in its last part only."""
    passes: list[list[Row]] = []
    left = 0
    for row in rows:
        start, end = row.start, row.start + row.n
        while start < end:
            if not left:
                passes.append([])
                left = most_tokens
            n = min(left, end - start)
            samples = row.samples and start + n == end
            passes[-1].append(Row(row.request, row.kind, start, n, samples))
            start, left = start + n, left - n
    return passes
