"""BlockPool against a slow, obvious model."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fairlead.memory import BlockPool, chain_hashes, future_peak
from fairlead.model import BlockHash


def name(i: int) -> BlockHash:
    return BlockHash(bytes([i]))


class PoolMachine(RuleBasedStateMachine):
    """The model: a dict of owners, a list of cached names in the order they fell idle."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(8)
        self.holders: list[list[int]] = []
        self.names: dict[BlockHash, int] = {}
        self.idle: list[BlockHash] = []
        self.known: set[BlockHash] = set()
        self.counter = 0

    def owners(self, block: int) -> int:
        return sum(holder.count(block) for holder in self.holders)

    @rule(n=st.integers(1, 4))
    def allocate(self, n: int) -> None:
        if n > self.pool.n_available:
            with pytest.raises(AssertionError):
                self.pool.allocate(n)
            return
        free = self.pool.n_free
        blocks = self.pool.allocate(n)
        assert len(set(blocks)) == n
        assert all(self.owners(block) == 0 for block in blocks), "handed out a block in use"
        for _ in range(max(n - free, 0)):
            del self.names[self.idle.pop(0)]
        assert set(self.names) == set(self.pool.names()), "evicted out of turn"
        self.holders.append(blocks)

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        holder = data.draw(st.sampled_from(self.holders))
        block = data.draw(st.sampled_from(holder))
        if block in self.names.values():
            return
        self.counter += 1
        self.pool.publish([block], [name(self.counter % 250)])
        self.names.setdefault(name(self.counter % 250), block)

    @precondition(lambda self: self.names)
    @rule(data=st.data())
    def share(self, data: st.DataObject) -> None:
        wanted = data.draw(st.lists(st.sampled_from(sorted(self.names)), unique=True, min_size=1))
        assert self.pool.match(wanted) == len(wanted)
        blocks = self.pool.share(wanted)
        assert blocks == [self.names[one] for one in wanted]
        self.idle = [one for one in self.idle if one not in wanted]
        self.holders.append(blocks)

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        blocks = self.holders.pop(data.draw(st.integers(0, len(self.holders) - 1)))
        self.pool.release(blocks)
        by_block = {block: one for one, block in self.names.items()}
        for block in reversed(blocks):
            if self.owners(block) == 0 and block in by_block:
                self.idle.append(by_block[block])

    @rule()
    def changes_tell_what_is_findable(self) -> None:
        stored, evicted = self.pool.drain_changes()
        assert not set(stored) & set(evicted)
        self.known = (self.known | set(stored)) - set(evicted)
        assert self.known == set(self.pool.names())

    @invariant()
    def blocks_are_conserved(self) -> None:
        self.pool.check_invariants(self.holders)
        used = {block for holder in self.holders for block in holder}
        assert self.pool.n_used == len(used)
        assert self.pool.n_free + self.pool.n_cached + self.pool.n_used == 8


TestPool = PoolMachine.TestCase


def test_the_tail_of_a_sequence_is_evicted_before_its_head() -> None:
    """A shared head outlives the suffixes that hang from it."""
    pool = BlockPool(3)
    blocks = pool.allocate(3)
    names = chain_hashes(range(12), 4)
    for block, one in zip(blocks, names, strict=True):
        pool.publish([block], [one])
    pool.release(blocks)
    pool.allocate(1)
    assert pool.match(names) == 2


def test_releasing_twice_is_a_bug() -> None:
    pool = BlockPool(2)
    plain, named = pool.allocate(1), pool.allocate(1)
    pool.publish(named, chain_hashes(range(4), 4))
    for blocks in (plain, named):
        pool.release(blocks)
    with pytest.raises(AssertionError, match="released twice"):
        pool.release(named)
    pool.release(plain)
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
