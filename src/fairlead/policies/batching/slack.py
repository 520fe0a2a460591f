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
from fairlead.policies.batching.lengths import FinishedLengths
from fairlead.policies.batching.parts import Admission, Batching, BatchView, Key
from fairlead.policies.registry import batching

FEASIBLE, LATE, UNTIMED = 0, 1, 2
"""Classes of urgency, first served first."""
REMEMBERED = 100_000
"""Prompt lengths whose price is kept: a bound on memory."""


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


class Dues:
    """When sequences must have their next token for their objectives still to be kept."""

    def __init__(self, lengths: FinishedLengths, pace: float) -> None:
        """`pace` is the part of a promised pace that decode steps may take."""
        self._lengths = lengths
        self._pace = pace
        self._alone_s: dict[int, float] = {}
        """Time to compute prompts of so many tokens, were they alone."""

    def next_token_s(self, sequence: SequenceView, view: BatchView) -> float | None:
        """None where nothing is promised. A deadline is kept if the rest of an answer of the
        length to be expected comes after the next token: as fast as it can, or, of what has not
        begun, as fast as the batch goes that it joins."""
        objective, begun_s = sequence.objective, sequence.first_token_s
        produced = sequence.n_produced
        if begun_s is not None and objective.tpot_s is not None:
            return begun_s + produced * objective.tpot_s
        if produced == 0 and objective.ttft_s is not None:
            return sequence.arrival_s + objective.ttft_s
        if objective.deadline_s is not None:
            left = self._lengths.expected_remaining(produced, sequence.max_tokens)
            n, context, stretched = 1, sequence.n_known, 1.0
            if not produced and view.n_decoding:
                # It will decode with those who are here, and wait for prefills as they do.
                n, context = n + view.n_decoding, context + view.decode_context
                stretched = 1 / self._pace
            token_s = view.latency.step_s(StepShape(n, context, 0, 0.0, 0, n)) * view.slowdown
            return sequence.arrival_s + objective.deadline_s - left * token_s * stretched
        return None

    def prefill_s(self, sequence: SequenceView, view: BatchView) -> float:
        """Time to compute what is known of it, were it alone."""
        known, computed = sequence.n_known, sequence.n_computed
        n = known - computed
        if computed == 0 and n in self._alone_s:
            return self._alone_s[n] * view.slowdown
        pairs = n * (computed + n / 2)
        alone_s = view.latency.step_s(StepShape(0, 0, n, pairs, known, 1))
        if computed == 0 and len(self._alone_s) < REMEMBERED:
            self._alone_s[n] = alone_s
        return alone_s * view.slowdown


class SlackOrder:
    """Decodes first, for they cost little and are mid-stream; then prefills by urgency."""

    settled = False
    decodes_first = True

    def __init__(self, dues: Dues) -> None:
        self._dues = dues

    def waiting_key(self, sequence: SequenceView, view: BatchView, now: float) -> Key:
        due_s = self._dues.next_token_s(sequence, view)
        if due_s is None:
            return (UNTIMED, sequence.priority, sequence.arrival_s, sequence.queued)
        urgency = FEASIBLE if now + self._dues.prefill_s(sequence, view) <= due_s else LATE
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
        pace_s, own_s = view.tightest_pace_s, sequence.objective.tpot_s
        if pace_s is None or (own_s is not None and own_s < pace_s):
            pace_s = own_s
        if pace_s is None or not view.n_running:
            return True
        n = view.n_running + 1
        context = view.decode_context + sequence.n_known + sum(s.n_known for s in view.prefilling)
        step_s = view.latency.step_s(StepShape(n, context, 0, 0.0, 0, n))
        return step_s * view.slowdown <= self._spare * pace_s


class MostSlack:
    """Preempts batch work first, then whoever is due last; the last admitted among equals."""

    def __init__(self, dues: Dues) -> None:
        self._dues = dues

    def choose(self, running: Sequence[SequenceView], view: BatchView, now: float) -> SequenceView:
        def expendable(sequence: SequenceView) -> tuple[bool, float, int]:
            due_s = self._dues.next_token_s(sequence, view)
            return (due_s is None, due_s or 0.0, sequence.admitted)

        return max(running, key=expendable)


@dataclass(frozen=True, slots=True)
class SparedBudget:
    """As much prefill as the running sequences' slack pays for."""

    params: Params
    dues: Dues

    def tokens(self, view: BatchView, now: float) -> int:
        decodes, most = view.n_decoding, self.params.max_step_tokens
        chunk = most
        # Where nobody needs prefill, nobody needs to be asked what it may cost.
        if view.n_waiting or view.prefilling:
            spared_s = self._spared_s(view, now)
            if spared_s < float("inf"):
                shape = StepShape(decodes, view.decode_context, 0, 0.0, 0, decodes)
                within = view.latency.prefill_within(
                    shape, self.params.spare * spared_s / view.slowdown, 0
                )
                chunk = max(self.params.min_chunk_tokens, within)
        return min(decodes + chunk, max(most, decodes + 1))

    def _spared_s(self, view: BatchView, now: float) -> float:
        """Time until the first of those who decode falls behind."""
        spared_s = view.next_due_s(now) - now
        apart = [s for s in view.prefilling if s.n_known - s.n_computed == 1]
        for sequence in (*view.decode_deadlines, *apart):
            due_s = self.dues.next_token_s(sequence, view)
            # One that is late already has nothing to protect.
            if due_s is not None and now < due_s < now + spared_s:
                spared_s = due_s - now
        return spared_s


@batching("slack", Params)
def slack(params: Params, rng: Random) -> Batching:
    memory = past_future.PastFutureAdmission(past_future.Params(reserve=params.reserve), rng)
    dues = Dues(memory.lengths, params.pace)
    return Batching(
        "slack",
        SlackOrder(dues),
        PacedAdmission(params, memory),
        MostSlack(dues),
        SparedBudget(params, dues),
        urgent_first=True,
    )
