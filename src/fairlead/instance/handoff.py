"""A hand-off, as the instance that has the sequence sees it: what to do next, given what came of
the last. Pure; drivers carry the commands out and say what happened.

    reserve -> copy while it decodes on -> ... -> freeze -> copy the rest -> commit

Until the target has committed, the source is whole and can go on as if nothing had been. Whatever
the two ends believe when one of them dies, the fleet decides whose tokens count: those of the
attempt that it knows.

Paper: Sun et al., "Llumnix: Dynamic Scheduling for Large Language Model Serving", 2024: staged
copies, so that the pause does not grow with the length.
"""

from __future__ import annotations

from typing import NamedTuple

from fairlead.instance.instance import Exported, Instance
from fairlead.instance.sequence import Sequence
from fairlead.model import Handoff, Request

LAST_STAGE_TOKENS = 64
"""So few uncopied tokens go while the sequence pauses. At 16 tokens a block the four blocks of a
long pause; Llumnix takes 16 blocks over a faster link."""
MAX_PASSES = 8
"""A sequence that has grown past the last stage after so many passes is made faster than it can be
copied, and stays."""
COPY_BYTES = 16 << 20
"""Copied at once: so much memory is held for it, and no step waits for longer than this takes."""


class Reserve(NamedTuple):
    """Ask the target for room; it answers how many tokens' KV it has already."""

    request: Request
    attempt: int
    n_tokens: int


class Copy(NamedTuple):
    """Send the KV of the tokens `start` to `end`, for which the target makes room first."""

    request: Request
    attempt: int
    start: int
    end: int


class Freeze(NamedTuple):
    """Call `frozen` as soon as no step is under way."""


class Commit(NamedTuple):
    """Send the KV from `start` on, and the sequence; then the target goes on with it."""

    attempt: int
    start: int
    exported: Exported


Command = Reserve | Copy | Freeze | Commit


class Outgoing:
    """One hand-off. Each method returns the next command, or None where it has come to nothing:
    then the target is told to forget it, and the fleet that it failed. `ahead` iterations of the
    step under way are over, though not committed."""

    def __init__(self, instance: Instance, order: Handoff) -> None:
        self.order = order
        self._instance = instance
        self._sequence: Sequence | None = None
        self._preemptions = 0
        self._copied = 0
        self._copying = 0
        """Where the copy under way ends."""
        self._passes = 0
        self._pass_end = 0
        """What was computed when this pass over the KV began."""
        self._is_frozen = False

    def begin(self, ahead: int = 0) -> Command | None:
        sequence = self._instance.sequences.get(self.order.request)
        if sequence is None or sequence.attempt != self.order.attempt or not sequence.n_produced:
            return None
        self._sequence, self._preemptions = sequence, sequence.n_preemptions
        if not self._runs:
            return None
        n_computed = _n_computed(sequence, ahead)
        return Reserve(sequence.request, self.order.to_attempt, n_computed)

    def reserved(self, n_cached: int, ahead: int = 0) -> Command | None:
        """The target has room, and so many tokens already."""
        self._copied = n_cached
        return self._next(ahead)

    def copied(self, ahead: int = 0) -> Command | None:
        self._copied = self._copying
        return self._next(ahead)

    def frozen(self, now: float) -> Command | None:
        """No step is under way."""
        if not self._runs:
            return None
        self._is_frozen = True
        exported = self._instance.freeze(self.order.request, now)
        return Commit(self.order.to_attempt, min(self._copied, exported.n_computed), exported)

    def committed(self, now: float) -> None:
        """The target has it: it leaves."""
        self._is_frozen = False
        self._instance.abort(self.order.request, now, self.order.attempt)

    def failed(self, now: float) -> None:
        """The target will not have it: it stays."""
        if self._is_frozen and self._is_here:
            self._instance.thaw(self.order.request, now)
        self._is_frozen = False

    @property
    def _is_here(self) -> bool:
        return self._instance.sequences.get(self.order.request) is self._sequence

    @property
    def _runs(self) -> bool:
        """It has neither ended nor lost its KV since the hand-off began, and makes tokens."""
        sequence = self._sequence
        return (
            sequence is not None
            and self._is_here
            and sequence.admitted > 0
            and sequence.n_preemptions == self._preemptions
            and sequence.n_uncomputed == 1
        )

    def _next(self, ahead: int) -> Command | None:
        sequence = self._sequence
        if sequence is None or not self._runs:
            return None
        n_computed = _n_computed(sequence, ahead)
        left = n_computed - self._copied
        if left <= LAST_STAGE_TOKENS:
            return Freeze()
        if self._copied >= self._pass_end:
            self._passes += 1
            self._pass_end = n_computed
        if self._passes > MAX_PASSES:
            return None
        piece = max(COPY_BYTES // max(self._instance.spec.kv_bytes_per_token, 1), 1)
        self._copying = min(self._copied + piece, self._pass_end)
        return Copy(sequence.request, self.order.to_attempt, self._copied, self._copying)


def _n_computed(sequence: Sequence, ahead: int) -> int:
    """Who sits out the iterations of a step computes nothing in them."""
    return sequence.n_computed + (ahead if sequence.decoding is not None else 0)
