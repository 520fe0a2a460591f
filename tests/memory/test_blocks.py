"""BlockPool against a slow, obvious model."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fairlead.memory import BlockPool, chain_hashes, future_peak
from fairlead.memory.cached import KEPT_S
from fairlead.model import BlockHash

OWNERS = (b"", b"a", b"b")


class PoolMachine(RuleBasedStateMachine):
    """The model: who holds what, whose every name is, and the idle blocks in the order in which
    they fell idle."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(8)
        self.now = 0.0
        self.holders: list[tuple[bytes, list[int]]] = []
        self.name_of: dict[int, BlockHash] = {}
        self.named: dict[BlockHash, list[int]] = {}
        """The one that is found first; then its twins."""
        self.owner_of: dict[BlockHash, bytes] = {}
        self.idle: dict[int, float] = {}
        """When each was let go."""
        self.known: set[BlockHash] = set()

    def n_holders(self, block: int) -> int:
        return sum(blocks.count(block) for _, blocks in self.holders)

    def next_to_go(self) -> int:
        """Of what nobody used for long the oldest; else the oldest of whoever has most."""
        by_owner: dict[bytes, list[int]] = {}
        for block in self.idle:
            by_owner.setdefault(self.owner_of[self.name_of[block]], []).append(block)
        oldest = [(self.idle[blocks[0]], -len(blocks), o) for o, blocks in by_owner.items()]
        most = [(-len(blocks), o) for o, blocks in by_owner.items()]
        is_old = min(oldest)[0] < self.now - KEPT_S
        return by_owner[min(oldest)[-1] if is_old else min(most)[-1]][0]

    def evict(self) -> None:
        block = self.next_to_go()
        del self.idle[block]
        name = self.name_of.pop(block)
        self.named[name].remove(block)
        if not self.named[name]:
            del self.named[name]

    @rule(n=st.integers(1, 4), owner=st.sampled_from(OWNERS))
    def allocate(self, n: int, owner: bytes) -> None:
        if n > self.pool.n_available:
            with pytest.raises(AssertionError):
                self.pool.allocate(n)
            return
        free = self.pool.n_free
        blocks = self.pool.allocate(n)
        assert len(set(blocks)) == n
        assert all(self.n_holders(block) == 0 for block in blocks), "handed out a block in use"
        for _ in range(max(n - free, 0)):
            self.evict()
        assert set(self.named) == set(self.pool.names()), "evicted out of turn"
        assert not set(blocks) & set(self.idle), "evicted out of turn"
        self.holders.append((owner, blocks))

    @precondition(lambda self: self.holders)
    @rule(which=st.integers(0), names=st.lists(st.integers(0, 20), min_size=1, max_size=4))
    def publish(self, which: int, names: list[int]) -> None:
        owner, blocks = self.holders[which % len(self.holders)]
        for block, i in zip(blocks, names, strict=False):
            if block in self.name_of:
                continue
            name = BlockHash(owner + bytes([i]))
            self.pool.publish([block], [name])
            self.name_of[block] = name
            self.owner_of[name] = owner
            self.named.setdefault(name, []).append(block)

    @precondition(lambda self: self.pool.n_available > 2)
    @rule(
        n=st.integers(1, 3),
        owner=st.sampled_from(OWNERS),
        names=st.lists(st.integers(0, 20), min_size=3, max_size=3),
        after_s=st.sampled_from([0.0, 1.0, 1.0, KEPT_S]),
    )
    def come_and_go(self, n: int, owner: bytes, names: list[int], after_s: float) -> None:
        """Most do, and leave cached blocks behind."""
        self.allocate(n, owner)
        self.publish(-1, names)
        self.release(-1, after_s)

    @precondition(lambda self: self.named)
    @rule(data=st.data())
    def share(self, data: st.DataObject) -> None:
        owner = self.owner_of[data.draw(st.sampled_from(sorted(self.named)))]
        names = sorted(name for name in self.named if self.owner_of[name] == owner)
        wanted = data.draw(st.lists(st.sampled_from(names), unique=True, min_size=1))
        assert self.pool.match(wanted) == len(wanted)
        blocks = self.pool.share(wanted, owner)
        assert blocks == [self.named[one][0] for one in wanted]
        for block in blocks:
            self.idle.pop(block, None)
        self.holders.append((owner, blocks))

    @precondition(lambda self: self.holders)
    @rule(which=st.integers(0), after_s=st.sampled_from([0.0, 1.0, 1.0, KEPT_S]))
    def release(self, which: int, after_s: float) -> None:
        owner, blocks = self.holders.pop(which % len(self.holders))
        if self.name_of:  # A pool without a name needs no clock.
            self.now += after_s
        self.pool.release(blocks, owner, self.now)
        for block in reversed(blocks):
            if self.n_holders(block) == 0 and block in self.name_of:
                self.idle[block] = self.now

    @rule()
    def changes_tell_what_is_findable(self) -> None:
        stored, evicted = self.pool.drain_changes()
        assert not set(stored) & set(evicted)
        self.known = (self.known | set(stored)) - set(evicted)
        assert self.known == set(self.pool.names())

    @invariant()
    def blocks_are_conserved(self) -> None:
        self.pool.check_invariants([blocks for _, blocks in self.holders])
        used = {block for _, blocks in self.holders for block in blocks}
        assert self.pool.n_used == len(used)
        assert self.pool.n_cached == len(self.idle)
        assert self.pool.n_free + self.pool.n_cached + self.pool.n_used == 8


TestPool = PoolMachine.TestCase


def test_the_tail_of_a_sequence_is_evicted_before_its_head() -> None:
    """A shared head outlives the suffixes that hang from it."""
    pool = BlockPool(3)
    blocks = pool.allocate(3)
    names = chain_hashes(range(12), 4)
    for block, one in zip(blocks, names, strict=True):
        pool.publish([block], [one])
    pool.release(blocks, b"", 0.0)
    pool.allocate(1)
    assert pool.match(names) == 2


def test_releasing_twice_is_a_bug() -> None:
    pool = BlockPool(2)
    plain, named = pool.allocate(1), pool.allocate(1)
    pool.publish(named, chain_hashes(range(4), 4))
    for blocks in (plain, named):
        pool.release(blocks, b"", 0.0)
    with pytest.raises(AssertionError, match="released twice"):
        pool.release(named, b"", 0.0)
    pool.release(plain, b"", 0.0)
    with pytest.raises(AssertionError, match="free twice"):
        pool.check_invariants()


def test_equal_prefixes_have_equal_names_up_to_where_they_differ() -> None:
    a, b = chain_hashes([1, 2, 3, 4, 5, 6], 2), chain_hashes([1, 2, 3, 4, 9, 6], 2)
    assert a[:2] == b[:2]
    assert a[2] != b[2]


def test_another_salt_shares_no_block() -> None:
    assert not set(chain_hashes(range(8), 2, b"x")) & set(chain_hashes(range(8), 2, b"y"))


def test_future_peak_is_reached_just_before_the_first_to_finish_leaves() -> None:
    """Two sequences of 10 and 20 tokens with 5 and 1 to go: 32 before the second leaves."""
    assert future_peak([(10, 5), (20, 1)]) == 32
    assert future_peak([]) == 0
