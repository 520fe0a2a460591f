"""One engine replica as a state machine: its sequences, its KV blocks, what to run next.

It reads no clock and runs nothing. A driver asks for a step with `plan`, runs it, and says what
came of it with `commit`; in between it may `submit` and `abort`. The same object runs inside a
live worker and in the simulator.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from fairlead.instance.planner import Planned, Planner
from fairlead.instance.sequence import Sequence
from fairlead.latency.model import LatencyModel
from fairlead.model import (
    Finished,
    FinishReason,
    InstanceEvent,
    InstanceSpec,
    Preempted,
    Produced,
    RefuseWhy,
    Report,
    Request,
    RequestId,
    Row,
    RowKind,
    Step,
    StepResult,
    StepShape,
    Tokens,
)
from fairlead.policies.batching import Batching


@dataclass(frozen=True, slots=True)
class Exported:
    """A sequence as it is, ready to be adopted by another instance."""

    request: Request
    produced: tuple[int, ...]
    """Its output tokens; where nobody knows their values (a simulation) their positions."""
    n_computed: int
    """Tokens whose KV goes with it."""
    first_token_s: float | None
    cached_tokens: int = 0
    """Of its prompt, what was found in the cache where it began."""


@dataclass(slots=True)
class _Run:
    """The step that was handed out, and how much of it is left."""

    rows: Planned
    """Of the sequences that do not decode with the group."""
    left: int
    """Iterations not yet committed."""
    until_s: float | None


class Instance:
    """See the module. Times are those of whoever calls; they never run back."""

    def __init__(self, spec: InstanceSpec, batching: Batching, latency: LatencyModel) -> None:
        self.spec = spec
        self.latency = latency
        self._batching = batching
        self._planner = Planner(spec, batching, latency)
        self._decoding = self._planner.decoding
        self._sequences: dict[RequestId, Sequence] = {}
        self._attempts: dict[RequestId, int] = {}
        self._run: _Run | None = None
        self._disturbed = True
        """Something happened since the last plan that the policy must be asked about."""
        self._events: list[InstanceEvent] = []
        self._arrivals = 0
        self.preemptions = 0
        self._prompt_tokens = 0
        self._cache_events = 0
        """Blocks that became findable or were evicted, as far as reports told."""
        self.busy_s = 0.0
        """Time spent in steps."""
        self._since_s: float | None = None
        """When the step under way began: at the end of the one before, or when work came. None
        while there is none."""

    @property
    def sequences(self) -> Mapping[RequestId, Sequence]:
        """Everything inside, waiting or running."""
        return self._sequences

    @property
    def attempts(self) -> Mapping[RequestId, int]:
        """What is here or on its way here, with the attempts that others know it by."""
        return self._attempts

    @property
    def would_admit(self) -> bool:
        """False where no newcomer could enter now, so that none needs to disturb a run."""
        return self._planner.seats_left > 0

    @property
    def planner(self) -> Planner:
        """Queues and memory, to look at."""
        return self._planner

    # ---------------------------------------------------------------- in and out

    def submit(
        self, request: Request, now: float, *, attempt: int = 1, produced: Seq[int] = ()
    ) -> RefuseWhy | None:
        """A sequence enters the waiting queue, or is refused and nothing changes.

        `produced` are output tokens that an earlier attempt made elsewhere. A second submit of an
        attempt that is already here (a doubled message) is taken as done.
        """
        present = self._sequences.get(request.id)
        if present is not None:
            if present.attempt >= attempt:
                return None
            self._remove(present, now)
        why = self._refusal(request, len(produced))
        if why is not None:
            return why
        self._drop(request.id, None, now)  # It comes anew: the hand-off came to nothing.
        self._arrivals += 1
        sequence = Sequence(request, attempt, produced, self._arrivals)
        self._keep(sequence)
        self._planner.wait(sequence)
        self._prompt_tokens += sequence.prompt_tokens
        self._disturbed = True
        return None

    def abort(self, request_id: RequestId, now: float, attempt: int | None = None) -> bool:
        """A sequence leaves and its blocks are free; False where it is not here.

        With `attempt` only that attempt leaves. Safe while a step runs: what the step computes
        for it is dropped by `commit`.
        """
        sequence = self._sequences.get(request_id)
        if sequence is None:
            return self._drop(request_id, attempt, now)
        if attempt is not None and sequence.attempt != attempt:
            return False
        self._remove(sequence, now)
        return True

    # ---------------------------------------------------------------- hand-offs

    def freeze(self, request_id: RequestId, now: float) -> Exported:
        """A running sequence leaves the batch, to be taken over elsewhere as it is; its blocks are
        kept. Between steps only. What others have not heard of its tokens, `tell` says."""
        sequence = self._sequences[request_id]
        self._planner.freeze(sequence)
        self._disturbed = True
        n = sequence.n_produced
        known = len(sequence.token_ids) == sequence.n_known
        tokens = sequence.token_ids[sequence.prompt_tokens :] if known else range(n)
        return Exported(
            sequence.request,
            tuple(tokens),
            sequence.n_computed,
            sequence.first_token_s,
            sequence.cached_tokens,
        )

    def thaw(self, request_id: RequestId, now: float) -> None:
        """The hand-off came to nothing: the frozen sequence runs on here."""
        self._planner.thaw(self._sequences[request_id])
        self._disturbed = True

    def reserve(self, request: Request, attempt: int, n_tokens: int, now: float) -> int | RefuseWhy:
        """Room for the first `n_tokens` of a sequence that is to be handed off to here, or for
        more of them; how many of them need no copy, as their KV is here already.

        Refused, with nothing changed, where there is no room now or it could never fit.
        """
        present = self._sequences.get(request.id)
        if present is not None:
            if present.attempt >= attempt:
                return RefuseWhy.QUEUE_FULL  # Of a hand-off that is over.
            self._remove(present, now)
        incoming = self._planner.incoming.get(request.id)
        if incoming is not None and incoming.attempt != attempt:
            if incoming.attempt > attempt:
                return RefuseWhy.QUEUE_FULL
            self._drop(request.id, None, now)
        why = self._refusal(request, n_produced=1)
        if why is not None:
            return why
        reserved = self._planner.reserve(request, attempt, n_tokens)
        if reserved is None:
            return RefuseWhy.QUEUE_FULL
        self._attempts[request.id] = attempt
        self._disturbed = True  # A run under way counted on these blocks.
        return reserved.n_cached

    def incoming_blocks(self, request_id: RequestId, attempt: int) -> list[int] | None:
        """Where the KV of a sequence that is on its way goes; None where nobody is expected."""
        incoming = self._planner.incoming.get(request_id)
        return incoming.blocks if incoming is not None and incoming.attempt == attempt else None

    def adopt(self, exported: Exported, attempt: int, now: float) -> bool:
        """The sequence that was expected has come with its KV, and runs on here; False where
        nobody expects it any more, or there is no room for what it has grown to."""
        request = exported.request
        incoming = self._planner.incoming.get(request.id)
        if incoming is None or incoming.attempt != attempt:
            return False
        if self._planner.reserve(request, attempt, exported.n_computed) is None:
            self._drop(request.id, attempt, now)
            return False
        self._arrivals += 1
        sequence = Sequence(request, attempt, exported.produced, self._arrivals)
        sequence.first_token_s = exported.first_token_s
        sequence.cached_tokens = exported.cached_tokens
        sequence.last_token_s = now
        self._planner.adopt(sequence, exported.n_computed)
        self._keep(sequence)
        self._disturbed = True
        return True

    def _drop(self, request_id: RequestId, attempt: int | None, now: float) -> bool:
        """Nobody is expected any more; False where nobody was."""
        incoming = self._planner.incoming.get(request_id)
        if incoming is None or (attempt is not None and incoming.attempt != attempt):
            return False
        self._planner.drop(request_id, now)
        del self._attempts[request_id]
        self._disturbed = True
        return True

    def _refusal(self, request: Request, n_produced: int) -> RefuseWhy | None:
        spec = self.spec
        # The last token is never fed back, so its KV needs no room.
        most = request.prompt_tokens + request.max_tokens - 1
        if most >= spec.max_context or -(-most // spec.block_tokens) > spec.n_blocks:
            return RefuseWhy.TOO_LONG
        waiting = self._planner.n_waiting
        no_seat = waiting + self._planner.n_running >= spec.max_sequences
        if n_produced == 0 and no_seat and waiting >= spec.max_waiting:
            return RefuseWhy.QUEUE_FULL
        return None

    def _keep(self, sequence: Sequence) -> None:
        self._sequences[sequence.id] = sequence
        self._attempts[sequence.id] = sequence.attempt

    def _remove(self, sequence: Sequence, now: float) -> None:
        self._planner.leave(sequence, now)
        del self._sequences[sequence.id], self._attempts[sequence.id]
        self._disturbed = True

    # ---------------------------------------------------------------- steps

    def plan(self, now: float) -> Step | None:
        """What to run next, with every block it needs held; None until something happens.

        While a run of decode iterations is left undisturbed, its rest is handed out again without
        asking anybody.
        """
        run = self._run
        if run is not None and run.left > 0 and not self._is_due(run, now):
            self._decoding.hold(1)
            return self._step(run, now)
        self._disturbed = False
        rows, preempted = self._planner.plan(now)
        for victim in preempted:
            self.preemptions += 1
            self._tell_rest(victim)
            self._events.append(Preempted(self.spec.id, victim.id, victim.attempt))
        if not rows and not self._decoding.members:
            assert not self._planner.n_running, f"nothing to run for {self._planner.running}"
            self._run = self._since_s = None
            return None
        horizon_s = self._batching.horizon_s
        until_s = None if horizon_s is None else now + horizon_s
        # A run needs everybody to decode; anything else is decided step by step.
        alone = not rows and not self._planner.catching_up
        self._run = _Run(rows, self._planner.iterations_left() if alone else 1, until_s)
        return self._step(self._run, now)

    def commit(self, step: Step, result: StepResult, now: float) -> list[InstanceEvent]:
        """Takes in what the last planned step brought, and returns what others must hear.

        Sequences that left in the meantime are passed over. Of tokens that have no values (see
        `StepResult.tokens`) only a sequence's first and its last ones are told.
        """
        run = self._run
        assert run is not None, "commit without plan"
        n = result.n_done
        assert 1 <= n <= run.left, f"{n} of {run.left} iterations done"
        produced: list[Produced] = []
        if result.tokens is None:
            self._advance(n, now)
        else:
            self._take_tokens(result.tokens, n, produced, now)
        if run.rows:
            self._catch_up(run, result.tokens, produced, now)
        run.left -= n
        self._keep_time(step, n, now)
        finished = self._finish(run, result.stopped, produced, now)
        events: list[InstanceEvent] = []
        if self._events:
            events, self._events = self._events, events
        if produced:
            events.append(Tokens(self.spec.id, produced))
        events += finished
        return events

    def busy_by(self, now: float) -> float:
        """Time spent in steps, with that of the step under way."""
        return self.busy_s if self._since_s is None else self.busy_s + now - self._since_s

    def keep_up(self, ahead: int) -> None:
        """Holds the blocks that a step under way has taken by now: `ahead` of its iterations are
        over, though not committed."""
        if ahead:
            self._decoding.hold(ahead + 1)

    def tell(self, ahead: int = 0) -> Tokens | None:
        """All tokens that others have not heard of yet; None where there are none. `ahead`
        iterations of the step under way are over, though not committed."""
        rows = []
        for sequence in self._sequences.values():
            n = sequence.n_produced + (ahead if sequence.decoding is not None else 0)
            if sequence.n_told < n:
                rows.append(self._telling(sequence, n))
        return Tokens(self.spec.id, rows) if rows else None

    def report(self, now: float, *, whole_cache: bool = False, ahead: int = 0) -> Report:
        """A picture of the instance; its cache changes are told once and then forgotten.

        `whole_cache` tells of every cached prefix, for a fleet that knows of none, or has missed
        something. `ahead` iterations of the step under way are over, though not committed.
        """
        self.keep_up(ahead)
        planner, group = self._planner, self._decoding
        stored, evicted = planner.pool.drain_changes()
        self._cache_events += len(stored) + len(evicted)
        if whole_cache:
            stored, evicted = planner.pool.names(), ()
        return Report(
            instance=self.spec.id,
            as_of_s=now,
            free_blocks=planner.pool.n_free,
            cached_blocks=planner.pool.n_cached,
            running=planner.n_running,
            waiting=planner.n_waiting,
            queued_tokens=planner.queued_tokens(),
            context_tokens=planner.held_tokens() + ahead * len(group.members),
            requests=tuple(self._attempts.items()),
            stored=stored,
            evicted=evicted,
            cache_events=self._cache_events,
            whole_cache=whole_cache,
            slowdown=planner.slowdown,
            busy_s=self.busy_s,
            preemptions=self.preemptions,
            prompt_tokens=self._prompt_tokens,
            hit_tokens=planner.hit_tokens,
        )

    def check_invariants(self) -> None:
        """Every block is held by somebody, or by nobody, and the group's counts are right."""
        planner = self._planner
        for sequence in planner.running:
            assert sequence.held_blocks * self.spec.block_tokens >= sequence.n_computed
        planner.pool.check_invariants(planner.held())
        self._decoding.check_invariants()

    # ---------------------------------------------------------------- the parts of a step

    def _is_due(self, run: _Run, now: float) -> bool:
        return self._disturbed or (run.until_s is not None and now >= run.until_s)

    def _step(self, run: _Run, now: float) -> Step:
        if self._since_s is None:
            self._since_s = now
        shape = self._shape(run.rows)
        first_s = self.latency.step_s(shape)
        growth_s = self.latency.growth_s(shape) if run.left > 1 else 0.0
        apart = [row for row, _ in run.rows]
        return Step(shape, self._decodes, apart, first_s, growth_s, run.left, run.until_s)

    def _shape(self, rows: Planned) -> StepShape:
        """`StepShape.of` all rows, without making those of the group."""
        group = self._decoding
        n = len(group.members)
        if not rows:
            return StepShape(n, group.n_computed + n, 0, 0.0, 0, n)
        own = StepShape.of(row for row, _ in rows)
        context = own.decode_context + group.n_computed + n
        longest = max(own.longest, group.longest + 1) if n else own.longest
        return StepShape(
            own.decodes + n,
            context,
            own.prefill_tokens,
            own.prefill_pairs,
            longest,
            own.sampled + n,
        )

    def _decodes(self) -> list[Row]:
        return [
            Row(sequence.id, RowKind.DECODE, sequence.n_computed, 1, True)
            for sequence in self._decoding.members
        ]

    def _advance(self, n: int, now: float) -> None:
        """`n` iterations of the group, whose tokens nobody knows."""
        if n > 1:
            self._decoding.hold(n)
        self._decoding.advance(n, now)

    def _take_tokens(
        self, tokens: Mapping[RequestId, Seq[int]], n: int, produced: list[Produced], now: float
    ) -> None:
        """`n` iterations of the group, one after the other: each fills blocks, which may be named
        after what is in them, before the next takes new ones."""
        group = self._decoding
        for i in range(n):
            if i > 0:
                group.hold(1)
            group.advance(1, now)
            for sequence in group.members:
                sequence.token_ids.append(tokens[sequence.id][i])
                if sequence.n_computed % self.spec.block_tokens == 0:
                    self._planner.publish(sequence, sequence.n_computed)
        for sequence in group.members:
            new = tokens[sequence.id]
            assert len(new) == n, f"{len(new)} tokens for {n} iterations of {sequence!r}"
            produced.append(Produced(sequence.id, sequence.attempt, sequence.n_told, new))
            sequence.n_told += n

    def _catch_up(
        self,
        run: _Run,
        tokens: Mapping[RequestId, Seq[int]] | None,
        produced: list[Produced],
        now: float,
    ) -> None:
        """The rows beside the group: chunks of prompts, and first tokens."""
        for row, sequence in run.rows:
            if self._sequences.get(row.request) is not sequence:
                continue
            sequence.n_computed = row.start + row.n
            self._planner.publish(sequence, sequence.n_computed)
            if not row.samples:
                continue
            sequence.n_known += 1
            sequence.last_token_s = now
            if sequence.first_token_s is None:
                sequence.first_token_s = now
            new: Seq[int] = range(1)
            if tokens is not None:
                new = tokens[row.request]
                assert len(new) == 1, f"{len(new)} tokens for one row of {sequence!r}"
                sequence.token_ids += new
            else:
                self._tell_rest(sequence, produced)
                continue
            produced.append(Produced(sequence.id, sequence.attempt, sequence.n_told, new))
            sequence.n_told += 1

    def _telling(self, sequence: Sequence, n: int) -> Produced:
        """Those of its first `n` tokens that others have not heard of; a token whose value nobody
        knows says its position."""
        told, sequence.n_told = sequence.n_told, n
        return Produced(sequence.id, sequence.attempt, told, range(told, n))

    def _tell_rest(self, sequence: Sequence, rows: list[Produced] | None = None) -> None:
        if sequence.n_told >= sequence.n_produced:
            return
        row = self._telling(sequence, sequence.n_produced)
        if rows is None:
            self._events.append(Tokens(self.spec.id, [row]))
        else:
            rows.append(row)

    def _keep_time(self, step: Step, n_done: int, now: float) -> None:
        """Learns how the engine keeps up with its latency model."""
        assert self._since_s is not None
        measured_s = now - self._since_s
        self.busy_s += measured_s
        self._since_s = now
        self._planner.pace.add(measured_s, step.seconds(n_done), n_done)

    def _finish(
        self,
        run: _Run,
        stopped: Mapping[RequestId, FinishReason],
        produced: list[Produced],
        now: float,
    ) -> list[InstanceEvent]:
        """Who ended with this step: of itself, or at its `max_tokens`."""
        at_limit = self._decoding.at_limit()
        if not (at_limit or stopped or run.rows):
            return []
        ended = dict.fromkeys(at_limit, FinishReason.LENGTH)
        for row, sequence in run.rows:
            if row.samples and self._sequences.get(row.request) is sequence:
                if sequence.n_produced >= sequence.max_tokens:
                    ended[sequence] = FinishReason.LENGTH
                elif row.request in stopped:
                    ended[sequence] = stopped[row.request]
        for id, reason in stopped.items():
            member = self._sequences.get(id)
            if member is not None and member.decoding is not None:
                ended[member] = reason
        # In the order in which they entered: it decides whose cached blocks are evicted first.
        in_order = sorted(ended.items(), key=lambda end: end[0].admitted)
        return [self._end(sequence, reason, produced, now) for sequence, reason in in_order]

    def _end(
        self, sequence: Sequence, reason: FinishReason, produced: list[Produced], now: float
    ) -> InstanceEvent:
        self._tell_rest(sequence, produced)
        n_produced = sequence.n_produced
        self._batching.admission.finished(sequence)
        self._remove(sequence, now)
        return Finished(
            self.spec.id,
            sequence.id,
            sequence.attempt,
            reason,
            sequence.cached_tokens,
            n_produced,
        )
