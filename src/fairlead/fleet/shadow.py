"""The fleet's own running estimate of an instance, between two of its reports.

A dispatch is a load change that no report shows yet, and a report is old when it arrives. So the
shadow keeps what was sent (the ledger), sees first tokens and ends in the token stream, and in
between goes by an estimate of what the instance does with it. A report corrects that.

What happens is told to the shadow, which tells its parts; each knows only those below it:

    Predictions    what a request would get there, and cost others
    InstanceQueue  when those who wait are due, who goes first, how soon turns come
    Estimate       backlog, contexts and memory, which go on with time; what steps take
    Ledger         who is there
"""

from __future__ import annotations

from collections.abc import Mapping

from fairlead.fleet.estimate import Estimate
from fairlead.fleet.held_prefixes import HeldPrefixes
from fairlead.fleet.instance_queue import InstanceQueue
from fairlead.fleet.ledger import Ledger, Pending
from fairlead.fleet.lengths import OutputLengths
from fairlead.fleet.predictions import Predictions
from fairlead.fleet.prefix_index import PrefixIndex
from fairlead.fleet.present import Present
from fairlead.fleet.tracked import Tracked
from fairlead.model import InstanceId, InstanceSpec, Report, RequestId, RequestView, Role


class Shadow:
    """A `HostView`. It catches up with the present when somebody looks."""

    def __init__(
        self,
        spec: InstanceSpec,
        lengths: OutputLengths,
        present: Present,
        requests: Mapping[RequestId, Tracked],
        index: PrefixIndex | None = None,
    ) -> None:
        """`requests` are all that the fleet has under way, `index` that of all its instances."""
        self.spec = spec
        self.id: InstanceId = spec.id
        self.pool = spec.pool
        self.role: Role = spec.role
        self.price_per_hour = spec.price_per_hour
        self.total_blocks = spec.n_blocks
        self.block_tokens = spec.block_tokens
        self.max_sequences = spec.max_sequences
        self.report: Report | None = None
        self.leaving = False
        """It is about to end by itself."""
        self.retiring = False
        """The fleet empties it, for its pool has too many."""
        self.stopping = False
        """It was told to end."""
        self.n_leaving = 0
        """Hand-offs from here that are under way."""
        self._requests = requests
        index = PrefixIndex() if index is None else index
        self.prefixes = prefixes = HeldPrefixes(index, spec.n_blocks, spec.block_tokens)
        self._ledger = ledger = Ledger()
        self._estimate = estimate = Estimate(spec, present, ledger)
        self._queue = queue = InstanceQueue(spec, present, ledger, estimate, lengths)
        self._predictions = Predictions(
            present, ledger, estimate, queue, prefixes, lengths, requests
        )
        self.attempts: Mapping[RequestId, int] = ledger.attempts
        """What is here, with the attempt that counts."""
        # As the ledger has them: a decision looks at those of a thousand instances.
        self.running = 0
        self.waiting = 0
        self.promised_tokens = 0
        self.has_room = True
        """Whether the instance would take one more, into its batch or its queue."""

    # ---------------------------------------------------------------- the view

    @property
    def queued_tokens(self) -> int:
        estimate = self._estimate
        if not estimate.backlog_tokens:
            return 0
        estimate.advance()
        return int(estimate.backlog_tokens)

    @property
    def context_tokens(self) -> int:
        self._estimate.advance()
        return int(self._estimate.context_tokens)

    @property
    def available_blocks(self) -> int:
        estimate = self._estimate
        estimate.advance()
        free_tokens = estimate.free_tokens - estimate.backlog_tokens
        return max(int(free_tokens // self.block_tokens), 0)

    def cached_tokens(self, request: RequestView) -> int:
        return self.prefixes.cached_tokens(request)

    def predicted_ttft_s(self, request: RequestView) -> float:
        return self._predictions.ttft_s(request)

    def least_ttft_s(self, request: RequestView) -> float:
        return self._predictions.least_ttft_s(request)

    def predicted_tpot_s(self, request: RequestView) -> float:
        return self._predictions.tpot_s(request)

    def predicted_e2e_s(self, request: RequestView) -> float:
        return self._predictions.e2e_s(request)

    def yielding_s(self, request: RequestView) -> float:
        return self._predictions.yielding_s(request)

    def added_s(self, request: RequestView) -> float:
        return self._predictions.added_s(request)

    def broken_paces(self, request: RequestView) -> float:
        return self._predictions.broken_paces(request)

    @property
    def decoding(self) -> list[Tracked]:
        return [self._requests[id] for id in self._ledger.decoding]

    @property
    def queue(self) -> list[Tracked]:
        return [self._requests[id] for id in self._ledger.pending]

    @property
    def draining(self) -> bool:
        return self.leaving or self.retiring

    @property
    def preemptions(self) -> int:
        return self.report.preemptions if self.report is not None else 0

    @property
    def n_moving(self) -> int:
        return self.n_leaving + len(self._ledger.coming)

    def stretch_s(self, context_tokens: int) -> float:
        self._estimate.advance()
        return self._estimate.stretch_s(context_tokens)

    def handoff_s(self, context_tokens: int) -> float:
        return context_tokens * self.spec.kv_bytes_per_token / self.spec.handoff_bytes_per_s

    # ---------------------------------------------------------------- what else the fleet asks

    @property
    def n_may_wait(self) -> int:
        """How many more it would let wait."""
        return 0 if self.draining else max(self.spec.max_waiting - self.waiting, 0)

    def begin_by_s(self, request: RequestView) -> float:
        """When the request should begin, here, to keep what it was promised; on the gateway's
        clock."""
        self._estimate.advance()
        return self._queue.begin_by_s(request)

    def has_turn(self, request: RequestView, hold_s: float) -> bool:
        """Whether one more would begin here in about `hold_s`."""
        return self._queue.has_turn(request, hold_s)

    def decode_step_s(self, n_more: int) -> float:
        """Seconds a decode step takes with all who are here and so many more."""
        self._estimate.advance()
        return self._estimate.decode_s(self.running + self.waiting + n_more)

    def backlog_s(self) -> float:
        """Time to work off what is queued."""
        self._estimate.advance()
        return self._estimate.backlog_tokens / self._estimate.prefill_rate_per_s()

    def held(self) -> list[RequestId]:
        """Requests that are here, those without a first token first."""
        return self._ledger.held()

    def decodes(self, request: RequestId) -> bool:
        return request in self._ledger.decoding

    def takes(self, context_tokens: int) -> bool:
        """Whether a sequence of this context could be handed off to here now."""
        seats = self.max_sequences - self.running - self.waiting
        return (
            bool(self.spec.address)
            and not self.draining
            and seats > 0
            and self.available_blocks * self.block_tokens > context_tokens
        )

    # ---------------------------------------------------------------- what changes it

    def promise(self, request: RequestView, attempt: int, produced: int) -> None:
        """A request was sent here."""
        tokens = self._predictions.ask(request).uncached + produced
        # One that is mid-stream goes before all that have not begun.
        due_s = self._estimate.as_of_s if produced else self._queue.due_s(request)
        patient = request.objective.patient and not produced
        pause_s = self._predictions.added_s(request)
        self._estimate.prompts.add(self._estimate.as_of_s, pause_s, request.id)
        self._queue.joins()
        end = request.prompt_tokens + produced
        pending = Pending(tokens, end, due_s, patient, request.objective.tpot_s)
        self._ledger.send(request.id, attempt, pending)
        self._estimate.queue(tokens)
        self._changed()
        if request.block_hashes:
            self.prefixes.expect(request.id, request.block_hashes)

    def first_token(self, request: RequestId, context_tokens: int) -> bool:
        """A request decodes here, with this context; False, and nothing changes, where it did."""
        if request in self._ledger.decoding:
            return False
        self._estimate.advance()
        pending = self._ledger.begin(request)
        self._queue.began(pending.patient)
        self._estimate.begin(pending.tokens, context_tokens)
        self.prefixes.computed(request)
        self._changed()
        return True

    def preempted(self, request: RequestId, context_tokens: int) -> None:
        """A request lost its KV and must be computed again."""
        if request not in self._ledger.decoding:
            return
        self._estimate.advance()
        self._queue.joins()
        pace_s = self._requests[request].request.objective.tpot_s
        due_s = self._estimate.as_of_s
        again = Pending(context_tokens, context_tokens, due_s, patient=False, pace_s=pace_s)
        self._ledger.preempt(request, again)
        self._estimate.end(context_tokens)
        self._estimate.queue(context_tokens)
        self._changed()

    def release(self, request: RequestId, context_tokens: int) -> None:
        """A request is no longer here."""
        self._estimate.advance()
        pending = self._ledger.release(request)
        if pending is None:
            self._estimate.end(context_tokens)
        else:
            self._estimate.unqueue(pending.tokens)
            self._estimate.prompts.withdraw(request)
            self.prefixes.gone(request)
        self._changed()

    def expect(self, request: RequestId, attempt: int, context_tokens: int) -> None:
        """A request is on its way here, with its KV."""
        self._estimate.advance()
        self._ledger.expect(request, attempt, context_tokens)
        self._estimate.reserve(context_tokens)
        self._changed()

    def expect_no_more(self, request: RequestId) -> None:
        """It stays where it is."""
        self._estimate.unreserve(self._ledger.expect_no_more(request))
        self._changed()

    def arrived(self, request: RequestId, context_tokens: int) -> None:
        """It decodes here now."""
        self._estimate.advance()
        self._estimate.arrive(self._ledger.arrive(request), context_tokens)
        self._changed()

    def correct(self, report: Report, inside: Mapping[RequestId, int]) -> None:
        """Replaces the estimate by a report, beside what was sent and the report does not know.

        `inside` are the report's requests with their attempts."""
        self.report = report
        self._estimate.correct(report, inside)
        self.prefixes.hear(report)
        self._predictions.forget()

    def retire(self, retiring: bool) -> None:
        """The fleet wants it empty, or has changed its mind."""
        self.retiring = retiring
        self._changed()

    def leave(self) -> None:
        """It said that it takes nothing new."""
        self.leaving = True
        self._changed()

    def _changed(self) -> None:
        """Something came, went, or changed places."""
        ledger = self._ledger
        self.running = ledger.running
        self.waiting = len(ledger.pending)
        self.promised_tokens = ledger.promised_tokens
        inside = self.running + self.waiting
        queue_or_seat = self.waiting < self.spec.max_waiting or inside < self.max_sequences
        self.has_room = queue_or_seat and not self.draining
        self._estimate.reprice()
        self._predictions.forget()

    def check_invariants(self, requests: Mapping[RequestId, Tracked]) -> None:
        """The ledger holds exactly what the fleet believes to be here."""
        self._ledger.check_invariants(self.id, requests)
        assert self._estimate.backlog_tokens >= 0
        assert self._estimate.context_tokens >= 0
        self.prefixes.check_invariants(self._ledger.pending)
