"""The fleet's own running estimate of an instance, between two of its reports.

A dispatch is a load change that no report shows yet, and a report is old when it arrives. So the
shadow keeps what was sent (the ledger), sees first tokens and ends in the token stream, and in
between works off the backlog and lets contexts grow by the same latency model that the instance
plans by. Nothing is counted per token. A report corrects it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from fairlead.fleet.asked import Asked
from fairlead.fleet.flow import PromptFlow
from fairlead.fleet.held_prefixes import HeldPrefixes
from fairlead.fleet.lengths import OutputLengths
from fairlead.fleet.paces import Added
from fairlead.fleet.prefix_index import PrefixIndex
from fairlead.fleet.prices import StepPrices
from fairlead.fleet.tracked import Tracked
from fairlead.fleet.turns import Turns
from fairlead.model import InstanceId, InstanceSpec, Report, RequestId, RequestView, Role

CHUNK_TOKENS = 2048
"""Prefill is priced in steps of this size; what instances really use is theirs to know."""
LOOKED_AT = 32
"""Of those who wait and of those who decode, the last that came are asked what a pause breaks."""
LONG = 1.5
"""Times what is expected: one in five is longer, of answers that spread as those of chats do."""
PROMPTS_AT_MOST = 0.6
"""Of an instance's time; what is above comes of a burst and does not last."""
STRETCHED = 1.25
"""By so much prefills that come between stretch a token, where requests wait."""
LEAST_LEFT = 0.01
"""The part of the time that is left to those who decode, however many prompts come."""
NOT_PENDING = (0, 0.0, 0.0)
ALWAYS_WAITING = 2
"""So many may wait at an instance, however slowly others begin: it must not stand still until we
hear that one has begun."""


class Present:
    """The time of the event that the fleet handles now; its shadows look at it when asked."""

    __slots__ = ("now",)

    def __init__(self, now: float = float("-inf")) -> None:
        self.now = now


class Shadow:
    """An `InstanceView`. It catches up with the present when somebody looks."""

    # A decision may look at a thousand of them: more than thirty attributes in a dict are slow.
    __slots__ = (
        "_asked",
        "_backlog_tokens",
        "_block_tokens",
        "_coming",
        "_context",
        "_decoding",
        "_flow",
        "_free_tokens",
        "_lengths",
        "_max_sequences",
        "_max_waiting",
        "_now",
        "_patient",
        "_pending",
        "_pending_depth",
        "_present",
        "_prices",
        "_rate_per_s",
        "_requests",
        "_turns",
        "_urgent_first",
        "attempts",
        "has_room",
        "id",
        "leaving",
        "n_leaving",
        "pool",
        "prefixes",
        "price_per_hour",
        "promised_tokens",
        "report",
        "retiring",
        "role",
        "running",
        "spec",
        "stopping",
        "total_blocks",
        "waiting",
    )

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
        self._requests = requests
        self.id: InstanceId = spec.id
        self.pool = spec.pool
        self.role: Role = spec.role
        self.price_per_hour = spec.price_per_hour
        self.total_blocks = spec.n_blocks
        self._prices = StepPrices(spec)
        self.running = 0
        self.waiting = 0
        self.has_room = True
        """Whether the instance would take one more, into its batch or its queue."""
        self.report: Report | None = None
        self.attempts: dict[RequestId, int] = {}
        """The ledger: what is here, with the attempt that counts."""
        self._max_waiting = spec.max_waiting
        self._max_sequences = spec.max_sequences
        self._block_tokens = spec.block_tokens
        self._urgent_first = spec.urgent_first
        self._lengths = lengths
        self._present = present
        self._now = present.now
        self.leaving = False
        """It is about to end by itself."""
        self.retiring = False
        """The fleet empties it, for its pool has too many."""
        self.stopping = False
        """It was told to end."""
        self._context = 0.0
        """Context tokens of the decoding requests."""
        self._backlog_tokens = 0.0
        self._rate_per_s: float | None = None
        """Prefill tokens worked off a second at the present batch; None: to be priced again."""
        self._free_tokens = float(spec.n_blocks * spec.block_tokens)
        self._pending: dict[RequestId, tuple[int, float, float]] = {}
        """Requests whose first token from here is still to come: the tokens to compute, when that
        first token is due (infinity: nothing is promised), and the sum of those tokens' places in
        their contexts."""
        self._pending_depth = 0.0
        """The sum of those sums: what attention to what comes before costs hangs on it."""
        self.promised_tokens = 0
        """The sum of those tokens."""
        self._decoding: dict[RequestId, None] = {}
        self._turns = Turns(present.now)
        self._flow = PromptFlow()
        self._patient: set[RequestId] = set()
        """Of those pending, who lets others go first."""
        self._coming: dict[RequestId, int] = {}
        """Requests that are handed off to here, with their contexts."""
        self.n_leaving = 0
        """Hand-offs from here that are under way."""
        self._asked: Asked | None = None
        """Of the last request that was asked about, until anything changes."""
        index = PrefixIndex() if index is None else index
        self.prefixes = HeldPrefixes(index, spec.n_blocks, spec.block_tokens)

    # ---------------------------------------------------------------- the view

    @property
    def queued_tokens(self) -> int:
        if not self._backlog_tokens:
            return 0
        self._advance()
        return int(self._backlog_tokens)

    @property
    def context_tokens(self) -> int:
        self._advance()
        return int(self._context)

    @property
    def available_blocks(self) -> int:
        self._advance()
        free = self._free_tokens - self._backlog_tokens
        return max(int(free // self._block_tokens), 0)

    def cached_tokens(self, request: RequestView) -> int:
        return self.prefixes.cached_tokens(request)

    def predicted_ttft_s(self, request: RequestView) -> float:
        asked = self._ask(request)
        if asked.ttft_s is None:
            asked.ttft_s = self._predict_ttft_s(request, asked)
        return asked.ttft_s

    def _ask(self, request: RequestView) -> Asked:
        if self._now < self._present.now:
            self._advance()
        asked = self._asked
        if asked is None or asked.id != request.id:
            uncached = request.prompt_tokens - self.prefixes.cached_tokens(request)
            own_s = self._own_s(uncached, request.prompt_tokens)
            asked = self._asked = Asked(request.id, uncached, own_s)
        return asked

    def _predict_ttft_s(self, request: RequestView, asked: Asked) -> float:
        n_ahead, ahead = self._ahead(request)
        ahead_s = ahead / self._prefill_rate_per_s() if ahead else 0.0
        memory_s = self._wait_for_memory_s(ahead + asked.uncached, n_ahead + 1)
        return max(ahead_s + asked.own_s, memory_s, self._turns_s(request, n_ahead))

    def added_s(self, request: RequestView) -> float:
        asked = self._ask(request)
        steps = -(-asked.uncached // CHUNK_TOKENS)
        return max(asked.own_s - steps * self._decode_step_s(self.running), 0.0)

    def broken_paces(self, request: RequestView) -> float:
        if not (self._pending or self._decoding):
            return 0.0
        pause_s = self.added_s(request)
        if pause_s <= 0:
            return 0.0
        added = Added(
            pause_s,
            self._pauses_s(self._backlog_tokens),
            self._token_s(self._flow.share(self._now)),
            self._token_s(self._flow.share(self._now, pause_s)),
            self._lengths,
            self._now,
        )
        waiting = added.breaks_of_waiting(self._newest_waiting())
        waiting *= max(self.waiting / LOOKED_AT, 1.0)
        newest = [self._requests[id] for id in islice(reversed(self._decoding), LOOKED_AT)]
        by_and_by = added.breaks_by_and_by(newest) * max(len(self._decoding) / LOOKED_AT, 1.0)
        own = added.breaks_own(request.objective.tpot_s)
        return own + waiting + added.breaks_of_decoding(newest) + by_and_by

    def _newest_waiting(self) -> Iterator[tuple[Tracked, float]]:
        """The last that came, each with the pauses of those that came after it."""
        tokens_behind = 0
        for id in islice(reversed(self._pending), LOOKED_AT):
            yield self._requests[id], self._pauses_s(tokens_behind)
            tokens_behind += self._pending[id][0]

    def _pauses_s(self, prompt_tokens: float) -> float:
        """For how long computing so many keeps those who decode from their next token."""
        step_s = self._decode_step_s(self.running + 1)
        return max(1 / self._prefill_rate_per_s() - step_s / CHUNK_TOKENS, 0.0) * prompt_tokens

    def _token_s(self, share: float) -> float:
        """What a token takes where prompts take this share of the time."""
        return self._decode_step_s(self.running + 1) / max(1 - share, LEAST_LEFT)

    def predicted_tpot_s(self, request: RequestView) -> float:
        self._advance()
        return self._predict_tpot_s(self._lengths.expected(request))

    def _predict_tpot_s(self, output_tokens: float) -> float:
        step_s = self._decode_step_s(self.running + self.waiting + 1)
        if not self._backlog_tokens:
            return step_s
        # Whatever prefill is queued is interleaved with its decoding.
        queued_s = self._backlog_tokens / self._prefill_rate_per_s()
        return step_s + queued_s / max(output_tokens, 1.0)

    def decode_step_s(self, n_more: int) -> float:
        """Seconds a decode step takes with all who are here and so many more."""
        self._advance()
        return self._decode_step_s(self.running + self.waiting + n_more)

    def predicted_e2e_s(self, request: RequestView) -> float:
        ttft_s = self.predicted_ttft_s(request)
        output_tokens = self._lengths.expected(request)
        if output_tokens <= 1.0:
            return ttft_s
        return ttft_s + (output_tokens - 1.0) * self._predict_tpot_s(output_tokens)

    # ---------------------------------------------------------------- what changes it

    def _advance(self) -> None:
        """Up to the present: the backlog is worked off, and the contexts have grown."""
        elapsed_s = self._present.now - self._now
        if elapsed_s <= 0:
            return
        self._now = self._present.now
        self._asked = None
        if self._backlog_tokens > 0:
            left = self._backlog_tokens - elapsed_s * self._prefill_rate_per_s()
            # While something is pending, something is left to do for it.
            self._backlog_tokens = left if left > self.waiting else float(self.waiting)
        if self.running:
            grown = self.running * elapsed_s / self._decode_step_s(self.running)
            self._context += grown
            self._free_tokens -= grown

    def retire(self, retiring: bool) -> None:
        """The fleet wants it empty, or has changed its mind."""
        self.retiring = retiring
        self._count()

    def leave(self) -> None:
        """It said that it takes nothing new."""
        self.leaving = True
        self._count()

    def promise(self, request: RequestView, attempt: int, produced: int) -> None:
        """A request was sent here."""
        tokens = self._ask(request).uncached + produced
        # One that is mid-stream goes before all that have not begun.
        due_s = self._now if produced else self._due_s(request)
        self._flow.add(self._now, self.added_s(request))
        if request.objective.patient and not produced:
            self._patient.add(request.id)
        self.attempts[request.id] = attempt
        self._await(request.id, tokens, request.prompt_tokens + produced, due_s)
        self._backlog_tokens += tokens
        self._count()
        if request.block_hashes:
            self.prefixes.expect(request.id, request.block_hashes)

    def first_token(self, request: RequestId, context_tokens: int) -> bool:
        """A request decodes here, with this context; False, and nothing changes, where it did."""
        if request in self._decoding:
            return False
        self._advance()
        self._turns.began(self._now, request in self._patient)
        tokens = self._await_no_more(request)
        self.prefixes.computed(request)
        self._decoding[request] = None
        self._context += context_tokens
        self._free_tokens -= tokens
        self._count()
        if self._backlog_tokens:
            self._backlog_tokens = min(self._backlog_tokens, float(self.promised_tokens))
        return True

    def release(self, request: RequestId, context_tokens: int) -> None:
        """A request is no longer here."""
        self._advance()
        del self.attempts[request]
        self._take_out(request, context_tokens)

    def expect(self, request: RequestId, attempt: int, context_tokens: int) -> None:
        """A request is on its way here, with its KV."""
        self._advance()
        self.attempts[request] = attempt
        self._coming[request] = context_tokens
        self._free_tokens -= context_tokens
        self._count()

    def expect_no_more(self, request: RequestId) -> None:
        """It stays where it is."""
        del self.attempts[request]
        self._free_tokens += self._coming.pop(request)
        self._count()

    def arrived(self, request: RequestId, context_tokens: int) -> None:
        """It decodes here now."""
        self._advance()
        self._free_tokens += self._coming.pop(request) - context_tokens
        self._decoding[request] = None
        self._context += context_tokens
        self._count()

    def _take_out(self, request: RequestId, context_tokens: int) -> None:
        if request in self._decoding:
            del self._decoding[request]
            left = self._context - context_tokens
            if left < 0 or not self._decoding:
                left = 0.0  # What is left of an estimate is not less than nothing.
            self._free_tokens += self._context - left
            self._context = left
        else:
            tokens = self._await_no_more(request)
            self.prefixes.gone(request)
            self._backlog_tokens -= min(tokens, self._backlog_tokens)
        self._count()

    def preempted(self, request: RequestId, context_tokens: int) -> None:
        """A request lost its KV and must be computed again."""
        if request in self._decoding:
            self._advance()
            self._take_out(request, context_tokens)
            self._await(request, context_tokens, context_tokens, self._now)
            self._backlog_tokens += context_tokens
            self._count()

    def _await(self, request: RequestId, tokens: int, end: int, due_s: float) -> None:
        """The last `tokens` of a context that ends at `end` are to be computed."""
        depth = tokens * (end - tokens / 2)
        self._pending[request] = (tokens, due_s, depth)
        self.promised_tokens += tokens
        self._pending_depth += depth

    def _await_no_more(self, request: RequestId) -> int:
        """The tokens that were to be computed; 0 where none were."""
        tokens, _, depth = self._pending.pop(request, NOT_PENDING)
        self._patient.discard(request)
        self.promised_tokens -= tokens
        self._pending_depth = self._pending_depth - depth if self._pending else 0.0
        return tokens

    def _count(self) -> None:
        """Something came, went, or changed places."""
        self.running = len(self._decoding) + len(self._coming)
        if not self.waiting:
            self._turns.nobody_waits(self._present.now)
        self.waiting = len(self._pending)
        inside = self.running + self.waiting
        queue_or_seat = self.waiting < self._max_waiting or inside < self._max_sequences
        self.has_room = queue_or_seat and not self.draining
        self._asked = None
        self._rate_per_s = None

    def correct(self, report: Report, inside: Mapping[RequestId, int]) -> None:
        """Replaces the estimate by a report, beside what was sent and the report does not know.

        `inside` are the report's requests with their attempts."""
        self.report = report
        self._prices.slow_down(report.slowdown)
        pending = self._pending
        unseen = sum(tokens for id, (tokens, _, _) in pending.items() if id not in inside)
        self._backlog_tokens = float(report.queued_tokens + unseen)
        self._free_tokens = float((report.free_blocks + report.cached_blocks) * self._block_tokens)
        if self._coming:
            unseen_kv = sum(n for id, n in self._coming.items() if id not in inside)
            self._free_tokens -= unseen_kv
        self._context = float(report.context_tokens) if self._decoding else 0.0
        self._asked = self._rate_per_s = None
        self.prefixes.hear(report)
        self._now = self._present.now

    # ---------------------------------------------------------------- the queue

    @property
    def n_may_wait(self) -> int:
        """How many more it would let wait."""
        return 0 if self.draining else max(self._max_waiting - self.waiting, 0)

    def begin_by_s(self, request: RequestView) -> float:
        """When it should begin to keep what it was promised, on the gateway's clock, if tokens take
        as long as they do here now, prompts that keep coming included, and its answer is rather
        long: whoever begins when they are due is late as often as not."""
        self._advance()
        token_s = self._token_s(min(self._flow.share(self._now), PROMPTS_AT_MOST))
        return self._first_by_s(request, LONG * self._lengths.expected(request), token_s)

    def _due_s(self, request: RequestView) -> float:
        """When the first token must come, on the gateway's clock."""
        token_s = STRETCHED * self._decode_step_s(self.running + 1)
        return self._first_by_s(request, self._lengths.expected(request), token_s)

    def _first_by_s(self, request: RequestView, output_tokens: float, token_s: float) -> float:
        due_s = request.objective.first_due_s(output_tokens, token_s)
        return float("inf") if due_s is None else request.arrival_s + due_s

    def _ahead(self, request: RequestView) -> tuple[int, float]:
        """Requests, and their tokens, that will be computed before this one if it came now."""
        if not self._urgent_first or not self._pending:
            return self.waiting, self._backlog_tokens
        mine_s, now = self._due_s(request), self._now
        n_ahead = ahead = 0
        for tokens, due_s, _ in self._pending.values():
            if now <= due_s <= mine_s:
                n_ahead += 1
                ahead += tokens
        worked_off = self.promised_tokens - self._backlog_tokens
        return n_ahead, max(ahead - worked_off, 0.0)

    def has_turn(self, request: RequestView, hold_s: float) -> bool:
        """Whether one more would begin here in about `hold_s`: fewer are before it than have begun
        in the last so many seconds."""
        if self.waiting < ALWAYS_WAITING:
            return True
        allowed = max(ALWAYS_WAITING, self._turns.n_later_than(self._present.now - hold_s))
        return self.waiting < allowed or self._n_before(request, hold_s) < allowed

    def _n_before(self, request: RequestView, hold_s: float) -> int:
        """Requests that wait here and would begin before this one. An instance that knows what is
        urgent takes first who can still be in time, so that those who cannot are passed by who
        can."""
        if not self._urgent_first:
            return self.waiting
        now, rate_per_s = self._present.now, self._prefill_rate_per_s()
        mine_s = self._due_s(request)
        in_time = now + hold_s + request.prompt_tokens / rate_per_s <= mine_s
        if not in_time or mine_s == float("inf"):
            return self.waiting
        return sum(
            due_s < float("inf") and now + tokens / rate_per_s <= due_s
            for tokens, due_s, _ in self._pending.values()
        )

    # ---------------------------------------------------------------- prices

    def _decode_step_s(self, batch: int) -> float:
        return self._prices.decode_s(batch, self._context)

    def _prefill_rate_per_s(self) -> float:
        rate_per_s = self._rate_per_s
        if rate_per_s is None:
            step_s = self._prefill_step_s(CHUNK_TOKENS, self._usual_start())
            rate_per_s = self._rate_per_s = CHUNK_TOKENS / step_s
        return rate_per_s

    def _usual_start(self) -> int:
        """Where in its prompt a queued chunk begins, on average."""
        if not self.promised_tokens:
            return 0
        return max(int(self._pending_depth / self.promised_tokens) - CHUNK_TOKENS // 2, 0)

    def _prefill_step_s(self, tokens: int, start: int) -> float:
        return self._prices.prefill_s(self.running, int(self._context), tokens, start)

    def _own_s(self, own: int, end: int) -> float:
        """Time to compute the last `own` tokens of a prompt that ends at `end`."""
        if own <= CHUNK_TOKENS:
            return self._prefill_step_s(own, end - own)
        # Several chunks: price the middle one, their cost grows linearly with their start.
        middle = end - own // 2 - CHUNK_TOKENS // 2
        return own / CHUNK_TOKENS * self._prefill_step_s(CHUNK_TOKENS, middle)

    def _wait_for_memory_s(self, needed: float, seats: int) -> float:
        """Time until those who run have made room for `needed` tokens in so many `seats`."""
        missing = needed - self._free_tokens
        seats_missing = self.running + seats - self._max_sequences
        if missing <= 0 and seats_missing <= 0:
            return 0.0
        lifetime_s = max(self._lengths.mean, 1.0) * self._decode_step_s(self.running)
        wait_s = max(seats_missing / self._max_sequences, 0.0) * lifetime_s
        if missing > 0 and self._context > 0:
            # All of the context turns over once in a lifetime.
            wait_s = max(wait_s, missing / self._context * lifetime_s)
        return wait_s

    def _turns_s(self, request: RequestView, n_ahead: int) -> float:
        """Time until its turn, as fast as others had theirs while there was a queue. An instance
        that keeps the pace it promised lets requests wait though it has memory and compute to
        spare, which no price of a step shows."""
        # Only who goes by due times holds anybody back for the pace of others.
        if not self._urgent_first:
            return 0.0
        now = self._present.now
        wait_s = self._turns.wait_s(n_ahead, now)
        if request.objective.patient and self._patient:
            wait_s += self._turns.patient_wait_s(len(self._patient), now)
        return wait_s

    def backlog_s(self) -> float:
        """Time to work off what is queued."""
        self._advance()
        return self._backlog_tokens / self._prefill_rate_per_s()

    def held(self) -> list[RequestId]:
        """Requests that are here, those without a first token first."""
        return [*self._pending, *self._decoding]

    # ---------------------------------------------------------------- as a host

    @property
    def decoding(self) -> list[Tracked]:
        return [self._requests[id] for id in self._decoding]

    def decodes(self, request: RequestId) -> bool:
        return request in self._decoding

    @property
    def queue(self) -> list[Tracked]:
        return [self._requests[id] for id in self._pending]

    @property
    def draining(self) -> bool:
        return self.leaving or self.retiring

    @property
    def block_tokens(self) -> int:
        return self._block_tokens

    @property
    def max_sequences(self) -> int:
        return self.spec.max_sequences

    @property
    def preemptions(self) -> int:
        return self.report.preemptions if self.report is not None else 0

    @property
    def n_moving(self) -> int:
        return self.n_leaving + len(self._coming)

    def handoff_s(self, context_tokens: int) -> float:
        return context_tokens * self.spec.kv_bytes_per_token / self.spec.handoff_bytes_per_s

    def takes(self, context_tokens: int) -> bool:
        """Whether a sequence of this context could be handed off to here now."""
        seats = self._max_sequences - self.running - self.waiting
        return (
            bool(self.spec.address)
            and not self.draining
            and seats > 0
            and self.available_blocks * self._block_tokens > context_tokens
        )

    def check_invariants(self, requests: Mapping[RequestId, Tracked]) -> None:
        """The ledger holds exactly what the fleet believes to be here."""
        here = self.held()
        assert len(set(here)) == len(here), f"{self.id}: pending and decoding at once"
        for id in here:
            assert id in requests, f"{self.id} holds {id}, which has ended"
            assert requests[id].instance == self.id, f"{self.id} holds {requests[id]!r}"
            assert requests[id].attempt == self.attempts[id], f"{self.id}: {requests[id]!r}"
        for id in self._coming:
            moving = requests[id].moving
            assert moving is not None, f"{self.id} waits for {id}, which does not move"
            assert (moving.target, moving.attempt) == (self.id, self.attempts[id])
        expected = {*here, *self._coming}
        assert expected == set(self.attempts), f"{self.id}: the ledger is not what is here"
        due_tokens = sum(tokens for tokens, _, _ in self._pending.values())
        assert self.promised_tokens == due_tokens, f"{self.id}: {due_tokens} tokens are pending"
        assert self._backlog_tokens >= 0
        assert self._context >= 0
        self.prefixes.check_invariants(self._pending)
