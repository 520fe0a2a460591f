"""Plans one step: who runs, who enters, who must give way.

The batching policy answers the four questions; here they are put in the order of the vLLM V1
scheduler. There are no phases: every sequence has known tokens of which some are computed, and a
step lets it catch up. Those that have caught up decode together and are planned as a group; only
where budget or memory do not suffice for everybody are they looked at one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import chain

from fairlead.instance.decoding import Decoding
from fairlead.instance.pace import Slowdown
from fairlead.instance.sequence import Sequence
from fairlead.latency.model import LatencyModel
from fairlead.memory import BlockPool, next_hash, root_hash
from fairlead.model import BlockHash, InstanceSpec, Request, RequestId, Row, RowKind
from fairlead.policies.batching import Batching
from fairlead.policies.batching.parts import Key

Planned = list[tuple[Row, Sequence]]
"""Rows of the sequences that were looked at one by one."""


@dataclass(slots=True)
class Incoming:
    """Room for a sequence whose KV is on its way."""

    attempt: int
    owner: bytes
    """The salt of its prefix."""
    blocks: list[int]
    n_cached: int
    """Leading tokens whose KV is here already."""


class Planner:
    """Holds the queues and the memory of one instance. Is the `BatchView` that policies see."""

    def __init__(self, spec: InstanceSpec, batching: Batching, latency: LatencyModel) -> None:
        self.batching = batching
        self.latency = latency
        self.pool = BlockPool(spec.n_blocks)
        self.n_blocks = spec.n_blocks
        self.block_tokens = spec.block_tokens
        self.max_sequences = spec.max_sequences
        self.decoding = Decoding(self.pool, spec.block_tokens)
        self.catching_up: dict[Sequence, None] = {}
        """Admitted, and not in the group."""
        self._planned: dict[Sequence, int] = {}
        """The rows of the last step beside the group's, with their tokens."""
        self.waiting: dict[Sequence, None] = {}
        self.waiting_tokens = 0
        """What those who wait would have to compute, as it was when they got in line."""
        self.pace = Slowdown()
        self.hit_tokens = 0
        self.frozen: dict[Sequence, None] = {}
        """Taken out of the batch in the last stage of a hand-off; they keep seat and blocks."""
        self.incoming: dict[RequestId, Incoming] = {}
        """Seats and blocks for sequences whose KV is on its way here."""
        self._running: dict[Sequence, None] = {}
        """In order of admission."""
        self.most_tokens = 0
        """Of those who run, if all of them reached `max_tokens`."""
        self._paces: dict[float, int] = {}
        """Promised to those who run, and to how many of them."""
        self._admissions = 0
        self._line: list[tuple[Key, int, Sequence]] = []
        """Heap of those that wait, where their keys do not change. Stale where they left."""
        self._settled = batching.order.settled

    # ---------------------------------------------------------------- the view

    @property
    def running(self) -> list[Sequence]:
        return list(self._running)

    @property
    def prefilling(self) -> list[Sequence]:
        return list(self.catching_up)

    @property
    def n_running(self) -> int:
        return len(self._running)

    @property
    def seats_left(self) -> int:
        taken = len(self._running) + len(self.frozen) + len(self.incoming)
        return self.max_sequences - taken

    @property
    def n_decoding(self) -> int:
        return len(self.decoding.members)

    @property
    def decode_context(self) -> int:
        return self.decoding.n_computed + len(self.decoding.members)

    @property
    def decode_deadlines(self) -> list[Sequence]:
        return list(self.decoding.promised.deadlines)

    def next_due_s(self, now: float) -> float:
        return self.decoding.promised.next_due_s(now, self.decoding.iterations)

    @property
    def tightest_pace_s(self) -> float | None:
        return min(self._paces, default=None)

    @property
    def n_waiting(self) -> int:
        return len(self.waiting)

    @property
    def slowdown(self) -> float:
        return self.pace.ratio

    @property
    def available_blocks(self) -> int:
        return self.pool.n_available

    def uncached_tokens(self, sequence: Sequence) -> int:
        """Tokens a waiting sequence would have to compute if it entered now."""
        return sequence.n_known - self._cached_blocks(sequence) * self.block_tokens

    # ---------------------------------------------------------------- the plan

    def plan(self, now: float) -> tuple[Planned, list[Sequence]]:
        """The rows of the next step beside the group's, and whom it preempted.

        When it returns, the blocks of every row, and of the group's next iteration, are held.
        """
        if self.catching_up:
            self._promote()
        budget = max(self.batching.budget.tokens(self, now), 1)
        planned: dict[Sequence, int] = {}
        self._planned = planned
        preempted: list[Sequence] = []
        if self.batching.prefill_alone and self._plan_prefills(planned, budget, now):
            return [(self._row(sequence, n), sequence) for sequence, n in planned.items()], []
        if self._suffices(budget):
            left = self._plan_everybody(planned, budget, now)
        else:
            left = self._plan_one_by_one(planned, preempted, budget, now)
        for sequence, n in planned.items():
            self.publish(sequence, sequence.n_computed + n)
        if self.waiting and not preempted:
            self._admit(planned, left, now)
        if not planned:
            return [], preempted
        rows = [(self._row(sequence, n), sequence) for sequence, n in planned.items()]
        if len(rows) > 1:
            # Decodes first: the executor treats them as one block.
            rows.sort(key=lambda pair: pair[0].kind is not RowKind.DECODE)
        return rows, preempted

    def _promote(self) -> None:
        """Those that have caught up in the last step decode with the others. One that had to sit it
        out decodes once by itself, so that whoever counts gaps between tokens sees its pause."""
        for sequence in self._planned:
            if sequence in self.catching_up and sequence.n_uncomputed == 1 and sequence.n_produced:
                del self.catching_up[sequence]
                self.decoding.add(sequence)

    def _suffices(self, budget: int) -> bool:
        """Whether everybody who runs gets all they could use, or at least as much as their place
        in the order gives them, without asking who comes first."""
        group = self.decoding
        left = budget - len(group.members)
        if left < 0:
            return False
        blocks, wanted = group.fresh_blocks(1), 0
        for sequence in self.catching_up:
            n = sequence.n_uncomputed
            wanted += n
            blocks += max(self._missing(sequence, sequence.n_computed + min(n, left)), 0)
        if blocks > self.pool.n_available:
            return False
        if wanted <= left or not group.members or self.batching.order.decodes_first:
            return True
        return min(s.admitted for s in self.catching_up) > group.last_admitted

    def _plan_everybody(self, planned: dict[Sequence, int], budget: int, now: float) -> int:
        """The group, then the others in their order while the budget lasts."""
        self.decoding.hold(1)
        budget -= len(self.decoding.members)
        if not self.catching_up:
            return budget
        catching_up: Iterable[Sequence] = self.catching_up
        if len(self.catching_up) > 1:
            order = self.batching.order
            catching_up = sorted(catching_up, key=lambda s: order.running_key(s, self, now))
        for sequence in catching_up:
            n = min(sequence.n_uncomputed, budget)
            if n == 0:
                break
            held = self._hold(sequence, sequence.n_computed + n)
            assert held, f"{sequence!r} was promised room"
            planned[sequence] = n
            budget -= n
        return budget

    def _plan_one_by_one(
        self, planned: dict[Sequence, int], preempted: list[Sequence], budget: int, now: float
    ) -> int:
        for sequence in self.decoding.dissolve():
            self.catching_up[sequence] = None
        self.decoding.hold(1)
        order = self.batching.order
        for sequence in sorted(self._running, key=lambda s: order.running_key(s, self, now)):
            n = min(sequence.n_uncomputed, budget)
            if n == 0 or sequence.admitted == 0:
                continue  # The budget is spent, or an earlier sequence preempted this one.
            while not self._hold(sequence, sequence.n_computed + n):
                victim = self.batching.victim.choose(self.running, self, now)
                assert isinstance(victim, Sequence)
                budget += planned.pop(victim, 0)
                self.preempt(victim, now)
                preempted.append(victim)
                if victim is sequence:
                    break
            if sequence.admitted:
                planned[sequence] = n
                budget -= n
        return budget

    def _plan_prefills(self, planned: dict[Sequence, int], budget: int, now: float) -> bool:
        """A step of prompts alone, begun ones first; False where there are none to compute now.
        Those who decode wait."""
        for sequence in self.catching_up:
            if sequence.n_uncomputed == 1 and sequence.n_produced:
                continue
            n = min(sequence.n_uncomputed, budget)
            if n and self._hold(sequence, sequence.n_computed + n):
                self.publish(sequence, sequence.n_computed + n)
                planned[sequence] = n
                budget -= n
        if self.waiting:
            self._admit(planned, budget, now)
        if planned:
            for sequence in self.decoding.dissolve():
                self.catching_up[sequence] = None
            self.decoding.hold(1)
        return bool(planned)

    # ---------------------------------------------------------------- who enters

    def _admit(self, planned: dict[Sequence, int], budget: int, now: float) -> None:
        if budget < 1 or self.seats_left < 1:
            return
        admission = self.batching.admission
        for sequence in self._in_line(now):
            if not admission.admit(sequence, self, now):
                break
            hits = self._cached_blocks(sequence)
            uncached = sequence.n_known - hits * self.block_tokens
            n = min(uncached, budget)
            if not self._fits(sequence, hits, uncached if self.batching.whole_prompt else n):
                break  # The head of the line waits; nobody overtakes it.
            self._enter(sequence, hits)
            held = self._hold(sequence, sequence.n_computed + n)
            assert held, f"{sequence!r} fitted, and then did not"
            self.publish(sequence, sequence.n_computed + n)
            planned[sequence] = n
            budget -= n
            if budget < 1 or self.seats_left < 1:
                break

    def _in_line(self, now: float) -> Iterator[Sequence]:
        """Those that wait, first to last. Where time changes no key, a heap keeps them in line."""
        order = self.batching.order
        if not self._settled:
            keyed = [(order.waiting_key(s, self, now), s.queued, s) for s in self.waiting]
            heapify(keyed)
            while keyed:
                yield heappop(keyed)[2]
            return
        while self._line:
            _, _, sequence = self._line[0]
            if sequence in self.waiting:
                yield sequence
                if sequence in self.waiting:
                    return  # It was not admitted, and so nobody behind it is asked.
            heappop(self._line)

    def _cached_blocks(self, sequence: Sequence) -> int:
        """Full blocks found in the cache; at least one token is left to compute."""
        if not sequence.hashes:
            return 0
        most = (sequence.n_known - 1) // self.block_tokens
        return self.pool.match(sequence.hashes[:most])

    def _fits(self, sequence: Sequence, hits: int, n: int) -> bool:
        fresh = -(-(hits * self.block_tokens + n) // self.block_tokens) - hits
        idle = self.pool.n_idle(sequence.hashes[:hits]) if hits else 0
        return fresh + idle <= self.pool.n_available

    def _enter(self, sequence: Sequence, hits: int) -> None:
        self._leave_line(sequence)
        self._run(sequence)
        if hits:
            sequence.blocks = self.pool.share(sequence.hashes[:hits], sequence.owner)
            sequence.n_computed = hits * self.block_tokens
            sequence.n_published = hits
            if sequence.n_preemptions == 0:
                sequence.cached_tokens = min(sequence.n_computed, sequence.prompt_tokens)
                self.hit_tokens += sequence.cached_tokens

    def _run(self, sequence: Sequence) -> None:
        self._running[sequence] = None
        self.catching_up[sequence] = None
        self.most_tokens += sequence.prompt_tokens + sequence.max_tokens
        pace_s = sequence.objective.tpot_s
        if pace_s is not None:
            self._paces[pace_s] = self._paces.get(pace_s, 0) + 1
        self._admissions += 1
        sequence.admitted = self._admissions

    # ---------------------------------------------------------------- blocks

    def _missing(self, sequence: Sequence, n_tokens: int) -> int:
        return -(-n_tokens // self.block_tokens) - sequence.held_blocks

    def _hold(self, sequence: Sequence, n_tokens: int) -> bool:
        """Makes the sequence hold blocks for `n_tokens`; False, and nothing changed, if none are
        left."""
        missing = self._missing(sequence, n_tokens)
        if missing > self.pool.n_available:
            return False
        if missing > 0:
            sequence.blocks += self.pool.allocate(missing)
        return True

    def publish(self, sequence: Sequence, n_tokens: int) -> None:
        """Makes the full blocks among the first `n_tokens` findable, as far as they have names.

        Those that the step being planned will fill are among them: its executor writes all KV of a
        layer before it reads any, so that a newcomer may share them within the same step.
        """
        first, last = sequence.n_published, n_tokens // self.block_tokens
        if first >= last:
            return
        names = self._names(sequence, last)[first:last]
        if names:
            self.pool.publish(sequence.blocks[first : first + len(names)], names)
            sequence.n_published = first + len(names)

    def _names(self, sequence: Sequence, n: int) -> Seq[BlockHash]:
        """Chain hashes of the first `n` blocks; fewer where not all tokens are known, as in a
        simulation."""
        known, request, width = len(sequence.hashes), sequence.request, self.block_tokens
        if known < n and len(request.token_ids) == request.prompt_tokens:
            names = list(sequence.hashes)
            parent = names[-1] if names else root_hash(sequence.owner)
            for i in range(known, n):
                parent = next_hash(parent, sequence.token_ids[i * width : (i + 1) * width])
                names.append(parent)
            sequence.hashes = names
        return sequence.hashes

    # ---------------------------------------------------------------- coming and going

    def wait(self, sequence: Sequence) -> None:
        """A sequence gets in line."""
        sequence.wanted_tokens = self.uncached_tokens(sequence)
        self.waiting[sequence] = None
        self.waiting_tokens += sequence.wanted_tokens
        if self._settled:
            key = self.batching.order.waiting_key(sequence, self, sequence.arrival_s)
            heappush(self._line, (key, sequence.queued, sequence))
            if len(self._line) > 2 * len(self.waiting) + 16:
                self._line = [entry for entry in self._line if entry[2] in self.waiting]
                heapify(self._line)

    def _leave_line(self, sequence: Sequence) -> None:
        del self.waiting[sequence]
        self.waiting_tokens -= sequence.wanted_tokens

    def reserve(self, request: Request, attempt: int, n_tokens: int) -> Incoming | None:
        """A seat and blocks for the first `n_tokens` of a sequence that comes with its KV, or
        more blocks for one that has a seat; None, and nothing changed, where there is no room."""
        incoming = self.incoming.get(request.id)
        if incoming is None:
            if self.seats_left < 1:
                return None
            names = request.block_hashes[: n_tokens // self.block_tokens]
            hits = self.pool.match(names) if names else 0
            if not self._fits_in(names[:hits], n_tokens):
                return None
            owner = request.cache_salt
            blocks = self.pool.share(names[:hits], owner) if hits else []
            incoming = Incoming(attempt, owner, blocks, hits * self.block_tokens)
            self.incoming[request.id] = incoming
        missing = -(-n_tokens // self.block_tokens) - len(incoming.blocks)
        if missing > self.pool.n_available:
            return None
        if missing > 0:
            incoming.blocks += self.pool.allocate(missing)
        return incoming

    def _fits_in(self, names: Seq[BlockHash], n_tokens: int) -> bool:
        fresh = -(-n_tokens // self.block_tokens) - len(names)
        return fresh + self.pool.n_idle(names) <= self.pool.n_available

    def drop(self, request_id: RequestId, now: float) -> None:
        """Nobody comes: what was reserved is free again."""
        incoming = self.incoming.pop(request_id)
        self.pool.release(incoming.blocks, incoming.owner, now)

    def adopt(self, sequence: Sequence, n_computed: int) -> None:
        """The sequence that was expected is here, with the KV of its first `n_computed` tokens."""
        incoming = self.incoming.pop(sequence.id)
        sequence.blocks = incoming.blocks
        sequence.n_published = incoming.n_cached // self.block_tokens
        self._run(sequence)
        sequence.n_computed = n_computed
        self.publish(sequence, n_computed)

    def freeze(self, sequence: Sequence) -> None:
        """Out of the batch, with seat and blocks kept; between steps only."""
        self._step_out(sequence)
        self.frozen[sequence] = None

    def thaw(self, sequence: Sequence) -> None:
        """Back into the batch."""
        del self.frozen[sequence]
        self._run(sequence)

    def preempt(self, sequence: Sequence, now: float) -> None:
        """Takes a running sequence's blocks; what it knows it computes again later."""
        self.leave(sequence, now)
        sequence.n_preemptions += 1
        self.wait(sequence)

    def leave(self, sequence: Sequence, now: float) -> None:
        """Removes a sequence, running or waiting, and gives back its blocks."""
        if not sequence.admitted:
            self._leave_line(sequence)
            return
        if sequence in self.frozen:
            del self.frozen[sequence]
        else:
            self._step_out(sequence)
        self.pool.release(sequence.blocks, sequence.owner, now)
        sequence.blocks = []
        sequence.n_computed = 0
        sequence.n_published = 0
        sequence.admitted = 0

    def _step_out(self, sequence: Sequence) -> None:
        del self._running[sequence]
        self.most_tokens -= sequence.prompt_tokens + sequence.max_tokens
        pace_s = sequence.objective.tpot_s
        if pace_s is not None:
            self._paces[pace_s] -= 1
            if not self._paces[pace_s]:
                del self._paces[pace_s]
        if sequence.decoding is not None:
            self.decoding.remove(sequence)
        else:
            del self.catching_up[sequence]

    def iterations_left(self) -> int:
        """How many decode iterations the group can run in a row."""
        return self.decoding.iterations_left(self.pool.n_available)

    def queued_tokens(self) -> int:
        """Known tokens that are not computed yet, of those who run and those who wait."""
        catching_up = sum(s.n_uncomputed for s in self.catching_up if s.n_uncomputed > 1)
        return self.waiting_tokens + catching_up

    def held_tokens(self) -> int:
        """Tokens whose KV is held by those who run."""
        apart = chain(self.catching_up, self.frozen) if self.frozen else self.catching_up
        return self.decoding.n_computed + sum(s.n_computed for s in apart)

    def held(self) -> Seq[Seq[int]]:
        """The blocks of everybody who holds any."""
        coming = [incoming.blocks for incoming in self.incoming.values()]
        return [*(s.blocks for s in chain(self._running, self.frozen)), *coming]

    def _row(self, sequence: Sequence, n: int) -> Row:
        uncomputed = sequence.n_uncomputed
        decodes = n == 1 and uncomputed == 1 and sequence.n_produced > 0
        return Row(
            sequence.id,
            RowKind.DECODE if decodes else RowKind.PREFILL,
            sequence.n_computed,
            n,
            n == uncomputed,
        )
