"""One engine replica as a state machine: its sequences, its KV blocks, what to run next.

It reads no clock and runs nothing. A driver asks for a step with `plan`, runs it, and says what
came of it with `commit`; in between it may `submit` and `abort`. The same object runs inside a
live worker and in the simulator.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from fairlead.instance.planner import Planner
from fairlead.instance.sequence import Sequence
from fairlead.latency.model import LatencyModel, StepShape
from fairlead.memory import next_hash, root_hash
from fairlead.model import (
    BlockHash,
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
    Tokens,
)
from fairlead.policies.batching import Batching


@dataclass(frozen=True, slots=True)
class Exported:
    """A sequence that left its instance, ready to be adopted by another."""

    request: Request
    attempt: int
    produced: tuple[int, ...]
    n_produced: int
    n_computed: int
    """Tokens whose KV travels with it."""
    first_token_s: float | None


@dataclass(slots=True)
class _Run:
    """The step that was handed out: its rows with their sequences, and how much of it is left."""

    rows: list[tuple[Row, Sequence]]
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
        self._sequences: dict[RequestId, Sequence] = {}
        self._run: _Run | None = None
        self._disturbed = True
        """Something happened since the last plan that the policy must be asked about."""
        self._events: list[InstanceEvent] = []
        self._arrivals = 0
        self._preemptions = 0
        self._prompt_tokens = 0
        self._busy_s = 0.0
        self._since_s: float | None = None
        """When the step under way began: at the end of the one before, or when work came. None
        while there is none."""

    @property
    def sequences(self) -> Mapping[RequestId, Sequence]:
        """Everything inside, waiting or running."""
        return self._sequences

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
            self._remove(present)
        why = self._refusal(request, len(produced))
        if why is not None:
            return why
        self._arrivals += 1
        sequence = Sequence(request, attempt, produced, self._arrivals)
        self._sequences[sequence.id] = sequence
        self._planner.waiting.append(sequence)
        self._prompt_tokens += sequence.prompt_tokens
        self._disturbed = True
        return None

    def abort(self, request_id: RequestId, now: float, attempt: int | None = None) -> bool:
        """A sequence leaves and its blocks are free; False where it is not here.

        With `attempt` only that attempt leaves. Safe while a step runs: what the step computes
        for it is dropped by `commit`.
        """
        sequence = self._sequences.get(request_id)
        if sequence is None or (attempt is not None and sequence.attempt != attempt):
            return False
        self._remove(sequence)
        return True

    def export(self, request_id: RequestId, now: float) -> Exported:
        """A sequence leaves with what it knows; copy the KV out of its blocks beforehand."""
        sequence = self._sequences[request_id]
        exported = Exported(
            sequence.request,
            sequence.attempt,
            tuple(sequence.token_ids[len(sequence.request.token_ids) :]),
            sequence.n_produced,
            sequence.n_computed,
            sequence.first_token_s,
        )
        self._remove(sequence)
        return exported

    def adopt(self, exported: Exported, now: float, *, attempt: int = 1) -> RefuseWhy | None:
        """A sequence enters with its KV and runs on; its blocks wait to be filled.

        Refused, with nothing changed, where there is no room now or it could never fit.
        """
        request = exported.request
        why = self._refusal(request, exported.n_produced)
        if why is None and request.id in self._sequences:
            why = RefuseWhy.QUEUE_FULL
        if why is not None:
            return why
        sequence = Sequence(request, attempt, exported.produced, self._arrivals + 1)
        sequence.first_token_s = exported.first_token_s
        if not self._planner.adopt(sequence, exported.n_computed):
            return RefuseWhy.QUEUE_FULL
        self._arrivals += 1
        self._sequences[sequence.id] = sequence
        self._disturbed = True
        return None

    def _refusal(self, request: Request, n_produced: int) -> RefuseWhy | None:
        spec = self.spec
        # The last token is never fed back, so its KV needs no room.
        most = request.prompt_tokens + request.max_tokens - 1
        if most >= spec.max_context or -(-most // spec.block_tokens) > spec.n_blocks:
            return RefuseWhy.TOO_LONG
        if n_produced == 0 and self._planner.n_waiting >= spec.max_waiting:
            return RefuseWhy.QUEUE_FULL
        return None

    def _remove(self, sequence: Sequence) -> None:
        self._planner.leave(sequence)
        del self._sequences[sequence.id]
        self._disturbed = True

    # ---------------------------------------------------------------- steps

    def plan(self, now: float) -> Step | None:
        """What to run next, with every block it needs held; None until something happens.

        While a run of decode iterations is left undisturbed, its rest is handed out again without
        asking anybody.
        """
        run = self._run
        if run is not None and run.left > 0 and not self._is_due(run, now):
            self._advance(run)
            return self._step(run, now)
        self._disturbed = False
        rows, preempted = self._planner.plan(now)
        for victim in preempted:
            self._preemptions += 1
            self._events.append(Preempted(self.spec.id, victim.id, victim.attempt))
        if not rows:
            assert not self._planner.running, f"nothing to run for {self._planner.running}"
            self._run = self._since_s = None
            return None
        horizon_s = self._batching.horizon_s
        until_s = None if horizon_s is None else now + horizon_s
        self._run = _Run(rows, self._iterations(rows), until_s)
        return self._step(self._run, now)

    def commit(self, step: Step, result: StepResult, now: float) -> list[InstanceEvent]:
        """Takes in what the last planned step brought, and returns what others must hear.

        Sequences that left in the meantime are passed over.
        """
        run = self._run
        assert run is not None, "commit without plan"
        assert 1 <= result.n_done <= run.left, f"{result.n_done} of {run.left} iterations done"
        alive = [
            (row, sequence)
            for row, sequence in run.rows
            if self._sequences.get(row.request) is sequence
        ]
        produced = self._take_tokens(alive, result, now)
        self._settle_blocks(alive, result.n_done)
        run.left -= result.n_done
        self._keep_time(step, result.n_done, now)
        events, self._events = self._events, []
        if produced:
            events.append(Tokens(self.spec.id, produced))
        events += self._finish(alive, result)
        return events

    def report(self, now: float, *, whole_cache: bool = False) -> Report:
        """A picture of the instance; its cache changes are told once and then forgotten.

        `whole_cache` tells of every cached prefix, for a fleet that knows of none.
        """
        planner = self._planner
        stored, evicted = planner.pool.drain_changes()
        if whole_cache:
            stored = planner.pool.names()
        return Report(
            instance=self.spec.id,
            as_of_s=now,
            free_blocks=planner.pool.n_free,
            cached_blocks=planner.pool.n_cached,
            running=len(planner.running),
            waiting=planner.n_waiting,
            queued_tokens=sum(planner.uncached_tokens(s) for s in planner.waiting)
            + sum(s.n_uncomputed for s in planner.running if s.n_uncomputed > 1),
            context_tokens=sum(s.n_computed for s in planner.running),
            requests=tuple((s.id, s.attempt) for s in self._sequences.values()),
            stored=stored,
            evicted=evicted,
            slowdown=planner.slowdown,
            busy_s=self._busy_s,
            preemptions=self._preemptions,
            prompt_tokens=self._prompt_tokens,
            hit_tokens=planner.hit_tokens,
        )

    def shape(self, step: Step) -> StepShape:
        """What a step's duration depends on, for whoever prices it."""
        return StepShape.of(step.rows)

    # ---------------------------------------------------------------- the parts of a step

    def _is_due(self, run: _Run, now: float) -> bool:
        return self._disturbed or (run.until_s is not None and now >= run.until_s)

    def _iterations(self, rows: list[tuple[Row, Sequence]]) -> int:
        """A run needs every running sequence to decode; anything else is decided step by step."""
        if len(rows) < len(self._planner.running):
            return 1
        if any(row.kind is not RowKind.DECODE for row, _ in rows):
            return 1
        return self._planner.iterations([sequence for _, sequence in rows])

    def _advance(self, run: _Run) -> None:
        """Moves the rows of a run to where its sequences are now, and holds their next block."""
        rows = []
        for row, sequence in run.rows:
            self._planner.hold_for_run(sequence, sequence.n_computed + 1)
            rows.append((Row(row.request, row.kind, sequence.n_computed, 1, True), sequence))
        run.rows = rows

    def _step(self, run: _Run, now: float) -> Step:
        self._since_s = now if self._since_s is None else self._since_s
        return Step(tuple(row for row, _ in run.rows), run.left, run.until_s)

    def _take_tokens(
        self, alive: list[tuple[Row, Sequence]], result: StepResult, now: float
    ) -> list[Produced]:
        produced = []
        for row, sequence in alive:
            if not row.samples:
                continue
            tokens = result.tokens[row.request]
            assert len(tokens) == result.n_done, f"{len(tokens)} tokens for {sequence!r}"
            produced.append(Produced(row.request, sequence.attempt, sequence.n_produced, tokens))
            sequence.token_ids += tokens
            sequence.n_known += len(tokens)
            sequence.n_produced += len(tokens)
            if sequence.first_token_s is None:
                sequence.first_token_s = now
        return produced

    def _keep_time(self, step: Step, n_done: int, now: float) -> None:
        """Learns how the engine keeps up with its latency model."""
        assert self._since_s is not None
        measured_s = now - self._since_s
        self._busy_s += measured_s
        self._since_s = now
        shape = self.shape(step)
        if n_done == 1:
            predicted_s = self.latency.step_s(shape)
        else:
            predicted_s = self.latency.run_s(shape, n_done)
        self._planner.pace.add(measured_s, predicted_s)

    def _settle_blocks(self, alive: list[tuple[Row, Sequence]], n_done: int) -> None:
        """Names the blocks that were filled, and holds those that iterations after the first
        needed, in the order in which single iterations would have done it."""
        width = self.spec.block_tokens
        boundaries: list[tuple[int, bool, int, int]] = []
        for i, (row, sequence) in enumerate(alive):
            after_first = row.start + row.n
            self._publish(sequence, after_first)
            sequence.n_computed = last = after_first + n_done - 1
            for full in range(-(-after_first // width) * width, last + 1, width):
                boundaries.append((full - after_first, True, i, full))
                if full < last:
                    boundaries.append((full + 1 - after_first, False, i, full + 1))
        for _, is_full, i, n_tokens in sorted(boundaries):
            if is_full:
                self._publish(alive[i][1], n_tokens)
            else:
                self._planner.hold_for_run(alive[i][1], n_tokens)

    def _publish(self, sequence: Sequence, n_tokens: int) -> None:
        """Makes the full blocks among the first `n_tokens` findable, as far as they have names."""
        for i in range(sequence.n_published, n_tokens // self.spec.block_tokens):
            name = self._name(sequence, i)
            if name is None:
                return
            self._planner.pool.publish(sequence.blocks[i], name)
            sequence.n_published = i + 1

    def _name(self, sequence: Sequence, i: int) -> BlockHash | None:
        """The chain hash of block `i`; None where the tokens are not known (a simulation)."""
        if i >= len(sequence.hashes):
            request, width = sequence.request, self.spec.block_tokens
            if len(request.token_ids) != request.prompt_tokens:
                return None
            parent = sequence.hashes[-1] if sequence.hashes else root_hash(request.cache_salt)
            sequence.hashes.append(
                next_hash(parent, sequence.token_ids[i * width : (i + 1) * width])
            )
        return sequence.hashes[i]

    def _finish(self, alive: list[tuple[Row, Sequence]], result: StepResult) -> list[InstanceEvent]:
        events: list[InstanceEvent] = []
        for row, sequence in alive:
            reason = result.stopped.get(row.request)
            if reason is None and sequence.n_produced >= sequence.max_tokens:
                reason = FinishReason.LENGTH
            if reason is None or not row.samples:
                continue
            self._batching.admission.finished(sequence)
            self._remove(sequence)
            events.append(
                Finished(
                    self.spec.id,
                    sequence.id,
                    sequence.attempt,
                    reason,
                    sequence.cached_tokens,
                    sequence.n_produced,
                )
            )
        return events
