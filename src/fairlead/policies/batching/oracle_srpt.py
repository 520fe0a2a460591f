"""Shortest remaining processing time with true lengths: a bound, for simulations only.

Paper: Schrage, A Proof of the Optimality of the Shortest Remaining Processing Time Discipline,
       1968.
Rule:  who would be done first if it ran alone enters first and gets its tokens first; it enters
       while the batch's true future peak fits into memory, so that nobody is ever preempted for
       it; should memory run out all the same, who would be done last gives way.

Where the oracle does not know a request (outside a simulation) its `max_tokens` stands in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from fairlead.latency.model import StepShape
from fairlead.memory import future_peak
from fairlead.model import SequenceView
from fairlead.policies.batching.fcfs import FixedBudget
from fairlead.policies.batching.parts import Batching, BatchView, Key, Oracle
from fairlead.policies.registry import batching


@dataclass(frozen=True, slots=True)
class Params:
    step_tokens: int = 2048
    """Token budget of a step, at least 1."""

    def __post_init__(self) -> None:
        if self.step_tokens < 1:
            raise ValueError(f"step_tokens must be at least 1, got {self.step_tokens}")


@dataclass(frozen=True, slots=True)
class Remaining:
    """What is left to do for a sequence, in truth."""

    oracle: Oracle

    def tokens(self, sequence: SequenceView) -> int:
        """Tokens it will still produce."""
        length = self.oracle.lengths.get(sequence.id, sequence.max_tokens)
        return max(length - sequence.n_produced, 1)

    def seconds(self, sequence: SequenceView, uncomputed: int, view: BatchView) -> float:
        """Time to its last token, were it alone on the instance."""
        model, known = view.latency, sequence.n_known
        pairs = uncomputed * (known - uncomputed / 2)
        first_s = model.step_s(StepShape(0, 0, uncomputed, pairs, known, 1))
        # Every later step reads about as much context as the middle one.
        steps = self.tokens(sequence) - 1
        return first_s + steps * model.step_s(StepShape(1, known + steps // 2, sampled=1))


@dataclass(frozen=True, slots=True)
class ShortestFirst:
    remaining: Remaining
    settled = False
    decodes_first = False

    def waiting_key(self, sequence: SequenceView, view: BatchView, now: float) -> Key:
        uncomputed = view.uncached_tokens(sequence)
        return (self.remaining.seconds(sequence, uncomputed, view), sequence.queued)

    def running_key(self, sequence: SequenceView, view: BatchView, now: float) -> Key:
        uncomputed = sequence.n_known - sequence.n_computed
        return (self.remaining.seconds(sequence, uncomputed, view), sequence.admitted)


@dataclass(frozen=True, slots=True)
class TruePeakFits:
    """Each sequence may leave all but one token of its last block empty."""

    remaining: Remaining

    def admit(self, sequence: SequenceView, view: BatchView, now: float) -> bool:
        if not view.n_running:
            return True  # Alone it fits: the instance would have refused it otherwise.
        empty = view.block_tokens - 1
        peak = future_peak(
            (one.n_known + empty, self.remaining.tokens(one)) for one in (*view.running, sequence)
        )
        return peak <= view.n_blocks * view.block_tokens

    def finished(self, sequence: SequenceView) -> None:
        """The oracle knew."""


@dataclass(frozen=True, slots=True)
class LongestRemaining:
    remaining: Remaining

    def choose(self, running: Sequence[SequenceView], view: BatchView, now: float) -> SequenceView:
        return max(running, key=lambda one: (self.remaining.tokens(one), one.admitted))


@batching("oracle-srpt", Params)
def oracle_srpt(params: Params, rng: Random) -> Batching:
    oracle = Oracle()
    remaining = Remaining(oracle)
    return Batching(
        "oracle-srpt",
        ShortestFirst(remaining),
        TruePeakFits(remaining),
        LongestRemaining(remaining),
        FixedBudget(params.step_tokens),
        oracle=oracle,
    )
