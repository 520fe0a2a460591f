"""One forward pass: what an instance runs next, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from fairlead.model.ids import RequestId
from fairlead.model.request import FinishReason


class RowKind(Enum):
    PREFILL = "prefill"
    """A chunk of known tokens; the last chunk also yields the next token."""
    DECODE = "decode"
    """One token in, one token out."""


@dataclass(frozen=True, slots=True)
class Row:
    """The share of one sequence in a step: its known tokens `start` to `start + n` are computed."""

    request: RequestId
    kind: RowKind
    start: int
    """Tokens whose KV is computed before this row."""
    n: int
    samples: bool
    """True where the row reaches the end of the known tokens, so that a new token comes out."""


@dataclass(frozen=True, slots=True)
class Step:
    rows: tuple[Row, ...]
    """Decodes first, then prefill chunks, each in the order the policy ran them."""
    repeat: int = 1
    """Identical decode iterations that may run before anyone wants to decide again. In iteration
    `j` each row starts at `start + j`. Above 1 only if every row is a decode."""
    until_s: float | None = None
    """When the policy wants to be asked in any case, even within the `repeat`."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """What an executor reports about a step."""

    tokens: Mapping[RequestId, Sequence[int]]
    """New tokens of every row with `samples`: `n_done` of them for a decode, one for a prefill."""
    n_done: int = 1
    """Iterations that ran, 1 to `repeat`."""
    stopped: Mapping[RequestId, FinishReason] = field(default_factory=dict)
    """Sequences that ended with their last token here: end of sequence, stop string. That
    `max_tokens` is reached the instance finds by itself."""
