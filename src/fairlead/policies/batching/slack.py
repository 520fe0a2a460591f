"""Slack: spend every step where an objective can still be kept. Fairlead's default.

Source: our own. The order follows FlowPrefill (feasible first by deadline, hopeless after), memory
        is admitted as by Past-Future, and the step's budget is what the running decodes can spare.
Rule:  a waiting sequence is due when its first token is, or when it must start to finish in time;
       feasible ones enter by due time, then those that are late, then batch work, all of them only
       while the batch still steps at the pace it promised. A step takes as many prefill tokens as
       fit before the next running sequence falls behind that pace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from fairlead.latency.model import StepShape
from fairlead.model import SequenceView
from fairlead.policies.batching import past_future
from fairlead.policies.batching.parts import Admission, Batching, BatchView, Key
from fairlead.policies.registry import batching

FEASIBLE, LATE, UNTIMED = 0, 1, 2
"""Classes of urgency, first served first."""


@dataclass(frozen=True, slots=True)
class Params:
    max_step_tokens: int = 2048
    """Most tokens of a step; bounds how long a newcomer waits for the step in progress."""
    min_chunk_tokens: int = 256
    """Prefill tokens a step may take even when decodes are behind: thinner chunks waste the
    weights' reads, and a queue that never drains helps nobody."""
    spare: float = 0.8
    """Fraction of the running sequences' slack that prefill may use up, 0 to 1."""
    pace: float = 0.8
    """A newcomer enters while a decode step of the batch takes at most this fraction of the
    tightest promised time per token: the rest is for the prefills in between."""
    reserve: float = 0.05
    """As in `past-future`."""

    def __post_init__(self) -> None:
        if self.max_step_tokens < 1 or self.min_chunk_tokens < 1:
            raise ValueError("max_step_tokens and min_chunk_tokens must be at least 1")
        for name in ("spare", "pace"):
            if not 0 < getattr(self, name) <= 1:
                value = getattr(self, name)
                raise ValueError(f"{name} must be above 0 and at most 1, got {value}")
        if not 0 <= self.reserve < 1:
            raise ValueError(f"reserve must be at least 0 and below 1, got {self.reserve}")


def next_token_due_s(sequence: SequenceView, view: BatchView) -> float | None:
    """When the next token of a sequence must come for its objective still to be kept.

    By pace where a time per token is promised, by what is left to produce where a deadline is;
    None where nothing is promised about its next token.
    """
    objective = sequence.objective
    if sequence.first_token_s is not None and objective.tpot_s is not None:
        return sequence.first_token_s + sequence.n_produced * objective.tpot_s
    if sequence.n_produced == 0 and objective.ttft_s is not None:
        return sequence.arrival_s + objective.ttft_s
    if objective.deadline_s is not None:
        left = sequence.max_tokens - sequence.n_produced
        alone_s = view.latency.step_s(StepShape(decodes=1, decode_context=sequence.n_known))
        return sequence.arrival_s + objective.deadline_s - left * alone_s * view.slowdown
    return None


def prefill_s(sequence: SequenceView, view: BatchView) -> float:
    """Time to compute what is known of it, were it alone."""
    n = sequence.n_known - sequence.n_computed
    pairs = n * (sequence.n_computed + n / 2)
    shape = StepShape(prefill_tokens=n, prefill_pairs=pairs, longest=sequence.n_known, sampled=1)
    return view.latency.step_s(shape) * view.slowdown


class SlackOrder:
    """Decodes first, for they cost little and are mid-stream; then prefills by urgency."""

    settled = False
    decodes_first = True

    def waiting_key(self, sequence: SequenceView, view: BatchView, now: float) -> Key:
        due_s = next_token_due_s(sequence, view)
        if due_s is None:
            return (UNTIMED, sequence.priority, sequence.arrival_s, sequence.queued)
        urgency = FEASIBLE if now + prefill_s(sequence, view) <= due_s else LATE
        return (urgency, sequence.priority, due_s, sequence.queued)

    def running_key(self, sequence: SequenceView, view: BatchView, now: float) -> Key:
        if sequence.n_known - sequence.n_computed == 1:
            return (0, sequence.admitted)
        return (1, *self.waiting_key(sequence, view, now))


class PacedAdmission:
    """Admits what memory will hold, and only while the batch still steps at the pace it promised:
    one more that waits misses one objective, one too many makes all of them miss theirs."""

    def __init__(self, params: Params, memory: Admission) -> None:
        self._spare = params.pace
        self._memory = memory

    def finished(self, sequence: SequenceView) -> None:
        self._memory.finished(sequence)

    def admit(self, sequence: SequenceView, view: BatchView, now: float) -> bool:
        return self._keeps_pace(sequence, view) and self._memory.admit(sequence, view, now)

    def _keeps_pace(self, sequence: SequenceView, view: BatchView) -> bool:
        batch = [*view.running, sequence]
        paces = [s.objective.tpot_s for s in batch if s.objective.tpot_s is not None]
        if not view.running or not paces:
            return True
        context = sum(s.n_known for s in batch)
        shape = StepShape(decodes=len(batch), decode_context=context, sampled=len(batch))
        return view.latency.step_s(shape) * view.slowdown <= self._spare * min(paces)


class MostSlack:
    """Preempts batch work first, then whoever is due last; the last admitted among equals."""

    def choose(self, running: Sequence[SequenceView], view: BatchView, now: float) -> SequenceView:
        def expendable(sequence: SequenceView) -> tuple[bool, float, int]:
            due_s = next_token_due_s(sequence, view)
            return (due_s is None, due_s or 0.0, sequence.admitted)

        return max(running, key=expendable)


@dataclass(frozen=True, slots=True)
class SparedBudget:
    """As much prefill as the running sequences' slack pays for."""

    params: Params

    def tokens(self, view: BatchView, now: float) -> int:
        decodes, context, spared_s = 0, 0, float("inf")
        for sequence in view.running:
            if sequence.n_known - sequence.n_computed != 1:
                continue
            decodes += 1
            context += sequence.n_known
            due_s = next_token_due_s(sequence, view)
            if due_s is not None:
                # One that is late already has nothing to protect.
                left_s = due_s - now
                spared_s = min(spared_s, left_s) if left_s > 0 else spared_s
        chunk = self.params.max_step_tokens
        if spared_s < float("inf"):
            shape = StepShape(decodes=decodes, decode_context=context, sampled=decodes)
            within = view.latency.prefill_within(
                shape, self.params.spare * spared_s / view.slowdown, 0
            )
            chunk = max(self.params.min_chunk_tokens, within)
        return min(decodes + chunk, max(self.params.max_step_tokens, decodes + 1))


@batching("slack", Params)
def slack(params: Params, rng: Random) -> Batching:
    memory = past_future.Params(reserve=params.reserve)
    return Batching(
        "slack",
        SlackOrder(),
        PacedAdmission(params, past_future.PastFutureAdmission(memory, rng)),
        MostSlack(),
        SparedBudget(params),
        urgent_first=True,
    )
