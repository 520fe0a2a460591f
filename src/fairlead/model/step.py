"""One forward pass: what an instance runs next, what it costs, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum

from msgspec import Struct

from fairlead.model.ids import RequestId
from fairlead.model.request import FinishReason

MAX_ITERATIONS = 1 << 40
"""What `iterations_within` answers at most; float seconds count single iterations up to there."""


class RowKind(Enum):
    PREFILL = "prefill"
    """A chunk of known tokens; the last chunk also yields the next token."""
    DECODE = "decode"
    """One token in, one token out."""


class Row(Struct, frozen=True, gc=False):
    """The share of one sequence in a step: its known tokens `start` to `start + n` are computed."""

    request: RequestId
    kind: RowKind
    start: int
    """Tokens whose KV is computed before this row."""
    n: int
    samples: bool
    """True where the row reaches the end of the known tokens, so that a new token comes out."""


class StepShape(Struct, frozen=True, gc=False):
    """All that a step's duration depends on."""

    decodes: int = 0
    """Decoding sequences (B)."""
    decode_context: int = 0
    """Tokens of context that the decodes read, summed (C)."""
    prefill_tokens: int = 0
    """New tokens of all prefill chunks; with `decodes` they are the step's tokens (T)."""
    prefill_pairs: float = 0.0
    """Query-key pairs of the chunks: sum of n * (start + n / 2) (A)."""
    longest: int = 0
    """Longest context walked in the step, chunk included (L). Not asked for in a step without
    prefill, and then left at 0 by whoever knows a cheaper way than looking at every decode."""
    sampled: int = 0
    """Sequences from which a token is drawn (Q)."""

    @staticmethod
    def of(rows: Iterable[Row]) -> StepShape:
        decodes = context = tokens = longest = sampled = 0
        pairs = 0.0
        for row in rows:
            end = row.start + row.n
            if row.kind is RowKind.DECODE:
                decodes += 1
                context += end
            else:
                tokens += row.n
                pairs += row.n * (row.start + row.n / 2)
            if end > longest:
                longest = end
            sampled += row.samples
        return StepShape(decodes, context, tokens, pairs, longest, sampled)


class Step:
    """What to run next, priced by the instance's latency model."""

    __slots__ = ("_decodes", "_rows", "apart", "first_s", "growth_s", "repeat", "shape", "until_s")

    def __init__(
        self,
        shape: StepShape,
        decodes: Callable[[], list[Row]],
        apart: Sequence[Row],
        first_s: float,
        growth_s: float = 0.0,
        repeat: int = 1,
        until_s: float | None = None,
    ) -> None:
        self.shape = shape
        self.apart = apart
        """Rows of the sequences that do not decode in step with the others: chunks of prompts,
        mostly."""
        self.first_s = first_s
        """Predicted duration of one iteration."""
        self.growth_s = growth_s
        """By how much each further iteration takes longer."""
        self.repeat = repeat
        """Identical decode iterations that may run before anyone wants to decide again. In
        iteration `j` each row starts at `start + j`. Above 1 only if every row is a decode."""
        self.until_s = until_s
        """When the policy wants to be asked in any case, even within the `repeat`."""
        self._decodes = decodes
        self._rows: tuple[Row, ...] | None = None

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows, decodes first. Made when first asked for, which must be before the step is
        committed: whoever only needs the time that a step takes never pays for them."""
        if self._rows is None:
            self._rows = (*self._decodes(), *self.apart)
        return self._rows

    def seconds(self, n: int = 1) -> float:
        """Predicted duration of `n` iterations."""
        return self.first_s if n == 1 else series_s(self.first_s, self.growth_s, n)

    def iterations_within(self, seconds: float) -> int:
        """Most iterations that end within `seconds`."""
        return iterations_within(self.first_s, self.growth_s, seconds)


class StepResult(Struct, frozen=True):
    """What an executor reports about a step."""

    tokens: Mapping[RequestId, Sequence[int]] | None
    """New tokens of every row with `samples`: `n_done` of them for a decode, one for a prefill.
    None from an executor that makes none: only their number is known then."""
    n_done: int = 1
    """Iterations that ran, 1 to `repeat`."""
    stopped: Mapping[RequestId, FinishReason] = {}
    """Sequences that ended with their last token here: end of sequence, stop string. That
    `max_tokens` is reached the instance finds by itself."""


def series_s(first_s: float, growth_s: float, n: int) -> float:
    """Sum of `n` durations, the first `first_s`, each `growth_s` longer than the one before."""
    return n * first_s + growth_s * (n * (n - 1) / 2)


def iterations_within(first_s: float, growth_s: float, seconds: float) -> int:
    """The inverse of `series_s`: the root of the quadratic, then set right where rounding hit."""
    if not seconds >= first_s:
        return 0
    if seconds < 2 * first_s + growth_s:
        return 1
    if series_s(first_s, growth_s, MAX_ITERATIONS) <= seconds:
        return MAX_ITERATIONS
    half_s = first_s - growth_s / 2
    # In this form of the root nothing cancels, and growth 0 gives the plain quotient.
    n = int(2 * seconds / (half_s + math.sqrt(half_s * half_s + 2 * growth_s * seconds)))
    while series_s(first_s, growth_s, n + 1) <= seconds:
        n += 1
    while series_s(first_s, growth_s, n) > seconds:
        n -= 1
    return n
