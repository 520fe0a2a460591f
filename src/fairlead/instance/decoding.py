"""The sequences of a batch that make one token in every iteration, counted together.

Nobody is touched per token. A member is written down once with its distance to the iteration
counter, and everything about the group follows from the counter: contexts, the iteration in which
the next of them reaches its limit, and the blocks that the coming iterations will need. So `n`
iterations cost the same as one.
"""

from __future__ import annotations

from heapq import heappop, heappush

from fairlead.instance.promised import Promised
from fairlead.instance.sequence import Sequence
from fairlead.memory import BlockPool


class Decoding:
    """Members have all but their last known token computed, and hold blocks for the computed ones.

    Every step of the instance is an iteration, also one without members. Blocks are held for
    `held` iterations: between steps those that are done, during a step the one under way as well.
    They lie in a common heap until somebody wants to know whose they are.
    """

    def __init__(self, pool: BlockPool, block_tokens: int) -> None:
        self.iterations = 0
        """Done so far."""
        self.members: dict[Sequence, None] = {}
        self.promised = Promised()
        self.last_token_s: float | None = None
        """When the last iteration ended."""
        self.last_admitted = 0
        """No member was admitted after this."""
        self._pool = pool
        self._width = block_tokens
        self._held = 0
        self._computed = 0
        """Computed tokens of all members, less `iterations` for each."""
        self._crossing = [0] * block_tokens
        """Members that begin a new block in iterations of this remainder by `block_tokens`."""
        self._loose: list[int] = []
        """Blocks that are held for members and not yet given to one."""
        self._limits: list[tuple[int, int, Sequence]] = []
        """Heap: the iteration after which a member has `max_tokens`. Stale where it left."""
        self._longest: int | None = 0
        """Most computed tokens of a member, less `iterations`; None: to be looked up again."""

    @property
    def n_computed(self) -> int:
        """Computed tokens of all members."""
        return self._computed + len(self.members) * self.iterations

    @property
    def longest(self) -> int:
        """Most computed tokens of a member."""
        if not self.members:
            return 0
        if self._longest is None:
            self._longest = max(s.n_computed for s in self.members) - self.iterations
        return self._longest + self.iterations

    # ---------------------------------------------------------------- coming and going

    def add(self, sequence: Sequence) -> None:
        """Between steps only: a step under way has no row for it."""
        assert self._held == self.iterations, "nobody joins while a step runs"
        assert sequence.n_uncomputed == 1, f"{sequence!r} has to catch up first"
        computed = sequence.n_computed
        sequence.limit = self.iterations + sequence.max_tokens - sequence.n_produced
        self._crossing[(self.iterations - computed) % self._width] += 1
        heappush(self._limits, (sequence.limit, sequence.admitted, sequence))
        distance = computed - self.iterations
        self._computed += distance
        if not self.members or (self._longest is not None and distance > self._longest):
            self._longest = distance
        if sequence.admitted > self.last_admitted:
            self.last_admitted = sequence.admitted
        self.promised.add(sequence, self.iterations)
        sequence.join(self)
        self.members[sequence] = None

    def remove(self, sequence: Sequence) -> None:
        distance = sequence.n_computed - self.iterations
        self._computed -= distance
        self._crossing[-distance % self._width] -= 1
        if distance == self._longest:
            self._longest = None
        self.promised.remove(sequence, self.iterations)
        sequence.leave()
        del self.members[sequence]

    def dissolve(self) -> list[Sequence]:
        """All members leave."""
        members = list(self.members)
        for sequence in members:
            self.remove(sequence)
        return members

    # ---------------------------------------------------------------- blocks

    def fresh_blocks(self, n: int) -> int:
        """Blocks still to be held for `n` more iterations than are done."""
        first, crossing, width = self._held, self._crossing, self._width
        n += self.iterations - first
        if n == 1:
            return crossing[first % width]
        whole, rest = divmod(n, width)
        blocks = whole * len(self.members)
        for i in range(first, first + rest):
            blocks += crossing[i % width]
        return blocks

    def hold(self, n: int) -> None:
        """Holds the blocks of `n` iterations beyond those done; there must be room."""
        fresh = self.fresh_blocks(n)
        if fresh:
            self._loose += self._pool.allocate(fresh)
        self._held = self.iterations + n

    def blocks_of(self, sequence: Sequence) -> int:
        """How many blocks a member holds."""
        return -(-(sequence.n_computed + self._held - self.iterations) // self._width)

    def give_blocks(self, sequence: Sequence, blocks: list[int]) -> None:
        """Gives a member those of its blocks that it has not been given yet."""
        missing = self.blocks_of(sequence) - len(blocks)
        if missing > 0:
            kept = len(self._loose) - missing
            blocks += self._loose[kept:]
            del self._loose[kept:]

    # ---------------------------------------------------------------- iterations

    def advance(self, n: int, now: float) -> None:
        """`n` iterations are done, whose blocks are held."""
        self.iterations += n
        self.last_token_s = now
        assert self._held == self.iterations, f"{self._held} held, {self.iterations} done"

    def iterations_left(self, available: int) -> int:
        """How many iterations these members can run in a row, at least 1: until the first of them
        reaches its limit, or more than `available` blocks would be needed."""
        limit = self._next_limit()
        assert limit is not None
        most = limit - self.iterations
        # A bound first: far from the end of memory nothing needs to be counted.
        if (most // self._width + 1) * len(self.members) <= available:
            return most
        if self.fresh_blocks(most) <= available:
            return most
        low, high = 1, most
        while high - low > 1:
            middle = (low + high) // 2
            if self.fresh_blocks(middle) <= available:
                low = middle
            else:
                high = middle
        return low

    def at_limit(self) -> list[Sequence]:
        """Members that have reached `max_tokens`."""
        limits = self._limits
        if not limits or limits[0][0] > self.iterations:
            return []
        reached: dict[Sequence, None] = {}  # One that left and came back is in the heap twice.
        while (limit := self._next_limit()) is not None and limit <= self.iterations:
            reached[heappop(limits)[2]] = None
        return list(reached)

    def _next_limit(self) -> int | None:
        limits = self._limits
        while limits:
            limit, _, sequence = limits[0]
            if sequence.limit == limit and sequence.decoding is self:
                return limit
            heappop(limits)
        return None

    def check_invariants(self) -> None:
        """The counts are those of the members."""
        assert self._computed == sum(s.n_computed - self.iterations for s in self.members)
        crossing = [0] * self._width
        for sequence in self.members:
            crossing[(self.iterations - sequence.n_computed) % self._width] += 1
            assert sequence.decoding is self
            assert sequence.n_uncomputed == 1
        assert crossing == self._crossing
        for sequence in self.members:
            assert len(sequence.blocks) == self.blocks_of(sequence)
        assert not self._loose, "blocks are held for nobody"
        self.promised.check_invariants(self.members, self.iterations)
