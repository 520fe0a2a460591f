"""Plans one step: who runs, who enters, who must give way.

The batching policy answers the four questions; here they are put in the order of the vLLM V1
scheduler. There are no phases: every sequence has known tokens of which some are computed, and a
step lets it catch up.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

from fairlead.instance.pace import Slowdown
from fairlead.instance.sequence import Sequence
from fairlead.latency.model import LatencyModel
from fairlead.memory import BlockPool
from fairlead.model import InstanceSpec, Row, RowKind
from fairlead.policies.batching import Batching


class Planner:
    """Holds the queues and the memory of one instance. Is the `BatchView` that policies see."""

    def __init__(self, spec: InstanceSpec, batching: Batching, latency: LatencyModel) -> None:
        self.batching = batching
        self.latency = latency
        self.pool = BlockPool(spec.n_blocks)
        self.n_blocks = spec.n_blocks
        self.block_tokens = spec.block_tokens
        self.max_sequences = spec.max_sequences
        self.running: list[Sequence] = []
        """In order of admission."""
        self.waiting: list[Sequence] = []
        self.pace = Slowdown()
        self.hit_tokens = 0
        self._admissions = 0

    @property
    def n_waiting(self) -> int:
        return len(self.waiting)

    @property
    def slowdown(self) -> float:
        return self.pace.ratio

    @property
    def available_blocks(self) -> int:
        return self.pool.n_available

    def plan(self, now: float) -> tuple[list[tuple[Row, Sequence]], list[Sequence]]:
        """The rows of the next step with their sequences, and whom it preempted.

        When it returns, every row's blocks are held.
        """
        budget = max(self.batching.budget.tokens(self, now), 1)
        planned, preempted, left = self._plan_running(budget, now)
        if not preempted:
            self._admit(planned, left, now)
        rows = [(self._row(sequence, n), sequence) for sequence, n in planned.items()]
        # Decodes first: the executor treats them as one block.
        rows.sort(key=lambda pair: pair[0].kind is not RowKind.DECODE)
        return rows, preempted

    def _plan_running(
        self, budget: int, now: float
    ) -> tuple[dict[Sequence, int], list[Sequence], int]:
        order = self.batching.order
        planned: dict[Sequence, int] = {}
        preempted: list[Sequence] = []
        for sequence in sorted(self.running, key=lambda s: order.running_key(s, self, now)):
            n = min(sequence.n_uncomputed, budget)
            if n == 0 or sequence.admitted == 0:
                continue  # The budget is spent, or an earlier sequence preempted this one.
            while not self._hold(sequence, sequence.n_computed + n):
                victim = self.batching.victim.choose(self.running, self, now)
                assert isinstance(victim, Sequence)
                budget += planned.pop(victim, 0)
                self.preempt(victim)
                preempted.append(victim)
                if victim is sequence:
                    break
            if sequence.admitted:
                planned[sequence] = n
                budget -= n
        return planned, preempted, budget

    def _admit(self, planned: dict[Sequence, int], budget: int, now: float) -> None:
        if not self.waiting or budget < 1 or len(self.running) >= self.max_sequences:
            return
        order, admission = self.batching.order, self.batching.admission
        for sequence in sorted(self.waiting, key=lambda s: order.waiting_key(s, self, now)):
            if budget < 1 or len(self.running) >= self.max_sequences:
                break
            if not admission.admit(sequence, self, now):
                break
            hits = self._cached_blocks(sequence)
            n = min(sequence.n_known - hits * self.block_tokens, budget)
            if not self._fits(sequence, hits, n):
                break  # The head of the line waits; nobody overtakes it.
            self._enter(sequence, hits)
            held = self._hold(sequence, sequence.n_computed + n)
            assert held, f"{sequence!r} fitted, and then did not"
            planned[sequence] = n
            budget -= n

    def _cached_blocks(self, sequence: Sequence) -> int:
        """Full blocks found in the cache; at least one token is left to compute."""
        most = (sequence.n_known - 1) // self.block_tokens
        return self.pool.match(sequence.hashes[:most])

    def uncached_tokens(self, sequence: Sequence) -> int:
        """Tokens a waiting sequence would have to compute if it entered now."""
        return sequence.n_known - self._cached_blocks(sequence) * self.block_tokens

    def _fits(self, sequence: Sequence, hits: int, n: int) -> bool:
        fresh = -(-(hits * self.block_tokens + n) // self.block_tokens) - hits
        idle = self.pool.n_idle(sequence.hashes[:hits])
        return fresh + idle <= self.pool.n_available

    def _enter(self, sequence: Sequence, hits: int) -> None:
        self.waiting.remove(sequence)
        self.running.append(sequence)
        self._admissions += 1
        sequence.admitted = self._admissions
        sequence.blocks = self.pool.share(sequence.hashes[:hits])
        sequence.n_computed = hits * self.block_tokens
        sequence.n_published = hits
        if sequence.n_preemptions == 0:
            sequence.cached_tokens = min(sequence.n_computed, sequence.prompt_tokens)
            self.hit_tokens += sequence.cached_tokens

    def _hold(self, sequence: Sequence, n_tokens: int) -> bool:
        """Makes the sequence hold blocks for `n_tokens`; False, and nothing changed, if none are
        left."""
        missing = -(-n_tokens // self.block_tokens) - len(sequence.blocks)
        if missing > self.pool.n_available:
            return False
        if missing > 0:
            sequence.blocks += self.pool.allocate(missing)
        return True

    def hold_for_run(self, sequence: Sequence, n_tokens: int) -> None:
        """As `plan` would have done for a later iteration of a run; the run's length promised that
        there is room."""
        held = self._hold(sequence, n_tokens)
        assert held, f"a run was planned beyond memory: {sequence!r} for {n_tokens} tokens"

    def adopt(self, sequence: Sequence, n_computed: int) -> bool:
        """Admits a sequence whose first `n_computed` tokens arrive with their KV."""
        if len(self.running) >= self.max_sequences or not self._hold(sequence, n_computed):
            return False
        self.running.append(sequence)
        self._admissions += 1
        sequence.admitted = self._admissions
        sequence.n_computed = n_computed
        return True

    def preempt(self, sequence: Sequence) -> None:
        """Takes a running sequence's blocks; what it knows it computes again later."""
        self.leave(sequence)
        sequence.n_preemptions += 1
        self.waiting.append(sequence)

    def leave(self, sequence: Sequence) -> None:
        """Removes a sequence, running or waiting, and gives back its blocks."""
        if sequence.admitted:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)
        self.pool.release(sequence.blocks)
        sequence.blocks = []
        sequence.n_computed = 0
        sequence.n_published = 0
        sequence.admitted = 0

    def iterations(self, decoding: Seq[Sequence]) -> int:
        """How many decode iterations these sequences can run in a row: until the first reaches
        its `max_tokens`, or memory runs out. At least 1, whose blocks are held already."""
        most = min(sequence.max_tokens - sequence.n_produced for sequence in decoding)
        if self._fresh_blocks(decoding, most) <= self.pool.n_available:
            return most
        low, high = 1, most
        while high - low > 1:
            middle = (low + high) // 2
            if self._fresh_blocks(decoding, middle) <= self.pool.n_available:
                low = middle
            else:
                high = middle
        return low

    def _fresh_blocks(self, decoding: Seq[Sequence], n: int) -> int:
        width = self.block_tokens
        return sum(
            max(-(-(sequence.n_computed + n) // width) - len(sequence.blocks), 0)
            for sequence in decoding
        )

    def _row(self, sequence: Sequence, n: int) -> Row:
        decodes = n == 1 and sequence.n_uncomputed == 1 and sequence.n_produced > 0
        return Row(
            sequence.id,
            RowKind.DECODE if decodes else RowKind.PREFILL,
            sequence.n_computed,
            n,
            samples=sequence.n_computed + n == sequence.n_known,
        )
