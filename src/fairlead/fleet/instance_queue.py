"""The queue of one instance: when those who wait there are due, who goes before whom, and how soon
turns come.

An instance that knows what is urgent takes first who is due sooner and can still be in time; others
take who came first.
"""

from __future__ import annotations

from fairlead.fleet.due_order import Ahead
from fairlead.fleet.estimate import Estimate
from fairlead.fleet.ledger import Ledger
from fairlead.fleet.lengths import OutputLengths
from fairlead.fleet.present import Present
from fairlead.fleet.turns import Turns
from fairlead.model import InstanceSpec, RequestId, RequestView

STRETCHED = 1.25
"""By so much prefills that come between stretch a token, where requests wait."""
LONG = 1.5
"""Times what is expected: one in five is longer, of answers that spread as those of chats do."""
PROMPTS_AT_MOST = 0.6
"""Of an instance's time; what is above comes of a burst and does not last."""
ALWAYS_WAITING = 2
"""So many may wait at an instance, however slowly others begin: it must not stand still until we
hear that one has begun."""


class InstanceQueue:
    """Answers for a request that might be sent there. Times on the gateway's clock."""

    __slots__ = ("_estimate", "_ledger", "_lengths", "_present", "_turns", "_urgent_first")

    def __init__(
        self,
        spec: InstanceSpec,
        present: Present,
        ledger: Ledger,
        estimate: Estimate,
        lengths: OutputLengths,
    ) -> None:
        self._urgent_first = spec.urgent_first
        self._present = present
        self._ledger = ledger
        self._estimate = estimate
        self._lengths = lengths
        self._turns = Turns(present.now)

    def joins(self) -> None:
        """One more is about to wait."""
        if not self._ledger.pending:
            self._turns.nobody_waits(self._present.now)

    def began(self, patient: bool) -> None:
        """One of them waits no more; whether it let others go first."""
        self._turns.began(self._present.now, patient)

    # ---------------------------------------------------------------- when it is due

    def due_s(self, request: RequestView) -> float:
        """When its first token must come; infinity where nothing is promised, or where who came
        first goes first, whatever was promised."""
        if not self._urgent_first:
            return float("inf")
        ttft_s = request.objective.ttft_s
        if ttft_s is not None:  # Whatever a token takes: a decision asks every instance.
            return request.arrival_s + ttft_s
        token_s = STRETCHED * self._estimate.decode_s(self._ledger.running + 1)
        return _first_by_s(request, self._lengths.expected(request), token_s)

    def begin_by_s(self, request: RequestView) -> float:
        """When it should begin to keep what it was promised, if tokens take as long as they do here
        now, prompts that keep coming included, and its answer is rather long: whoever begins when
        they are due is late as often as not."""
        token_s = self._estimate.token_s(prompts_at_most=PROMPTS_AT_MOST)
        return _first_by_s(request, LONG * self._lengths.expected(request), token_s)

    # ---------------------------------------------------------------- who goes before it

    def ahead(self, request: RequestView) -> Ahead:
        """Who will be computed before this one, which waits here, or might come now."""
        ledger, now = self._ledger, self._present.now
        if request.id in ledger.pending:
            before = ledger.by_due().before(request.id, now)
            left = max(before.tokens - self._computed_tokens(), 0.0)
            return Ahead(before.n, left, before.n_patient)
        if not self._urgent_first or not ledger.pending:
            n_waiting = len(ledger.pending)
            return Ahead(n_waiting, self._estimate.backlog_tokens, ledger.n_patient)
        n_ahead, tokens_ahead = ledger.by_due().within(now, self.due_s(request))
        tokens_ahead_left = max(tokens_ahead - self._computed_tokens(), 0.0)
        return Ahead(n_ahead, tokens_ahead_left, ledger.n_patient)

    def beside_tokens(self, request: RequestView) -> float:
        """Of the prompts that wait here, what is computed while this one decodes. Those that are
        promised nothing get what is left of the time, where the urgent go first."""
        backlog = self._estimate.backlog_tokens
        if not self._urgent_first or not request.objective.timed:
            return backlog
        return max(backlog - self._ledger.untimed_tokens, 0.0)

    def left_tokens(self, id: RequestId) -> int:
        """What is still to be computed for one that waits here."""
        tokens = self._ledger.pending[id].tokens
        before = self._ledger.by_due().before(id, self._present.now)
        computed = self._computed_tokens() - before.tokens
        return max(tokens - int(computed), 1) if computed > 0 else tokens

    def _computed_tokens(self) -> float:
        """Of the prompts of those who wait: of the first of them."""
        return self._ledger.promised_tokens - self._estimate.backlog_tokens

    def wait_s(self, request: RequestView, ahead: Ahead) -> float:
        """Time until its turn, as fast as others had theirs while there was a queue. An instance
        that keeps the pace it promised lets requests wait though it has memory and compute to
        spare, which no price of a step shows."""
        # Only who goes by due times holds anybody back for the pace of others.
        if not self._urgent_first:
            return 0.0
        now = self._present.now
        wait_s = self._turns.wait_s(ahead.n, now)
        if ahead.n_patient and request.objective.patient:
            patient_s = self._turns.patient_wait_s(ahead.n_patient, now)
            waits = self._ledger.pending.get(request.id)
            # One that waits here lets others go first until it is due, and no longer.
            wait_s += patient_s if waits is None else min(patient_s, max(waits.due_s - now, 0.0))
        return wait_s

    # ---------------------------------------------------------------- whether it soon begins

    def has_turn(self, request: RequestView, hold_s: float) -> bool:
        """Whether one more would begin here in about `hold_s`: fewer are before it than have begun
        in the last so many seconds."""
        n_waiting = len(self._ledger.pending)
        if n_waiting < ALWAYS_WAITING:
            return True
        allowed = max(ALWAYS_WAITING, self._turns.n_later_than(self._present.now - hold_s))
        return n_waiting < allowed or self._n_before(request, hold_s) < allowed

    def _n_before(self, request: RequestView, hold_s: float) -> int:
        """Requests that wait here and would begin before this one: who cannot be in time is passed
        by who can."""
        pending = self._ledger.pending
        if not self._urgent_first:
            return len(pending)
        now, rate_per_s = self._present.now, self._estimate.prefill_rate_per_s()
        mine_s = self.due_s(request)
        in_time = now + hold_s + request.prompt_tokens / rate_per_s <= mine_s
        if not in_time or mine_s == float("inf"):
            return len(pending)
        return sum(
            other.due_s < float("inf") and now + other.tokens / rate_per_s <= other.due_s
            for other in pending.values()
        )


def _first_by_s(request: RequestView, output_tokens: float, token_s: float) -> float:
    due_s = request.objective.first_due_s(output_tokens, token_s)
    return float("inf") if due_s is None else request.arrival_s + due_s
