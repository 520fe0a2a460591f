"""The prefix index against a set for everybody who holds anything."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fairlead.fleet.prefix_index import FEW, PrefixIndex
from fairlead.model import BlockHash

NAMES = [BlockHash(bytes([i])) for i in range(12)]
SOME = st.lists(st.sampled_from(NAMES), unique=True, min_size=1)


def leading(names: list[BlockHash], held: dict[BlockHash, int]) -> int:
    missing = (i for i, name in enumerate(names) if name not in held)
    return next(missing, len(names))


class IndexMachine(RuleBasedStateMachine):
    """The model: of every slot the blocks in it."""

    def __init__(self) -> None:
        super().__init__()
        self.index = PrefixIndex()
        self.held: dict[int, dict[BlockHash, int]] = {}

    @rule()
    def join(self) -> None:
        slot = self.index.join()
        assert slot not in self.held
        self.held[slot] = {}

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.held)))
        self.index.leave(slot, self.held.pop(slot))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), names=SOME)
    def add(self, data: st.DataObject, names: list[BlockHash]) -> None:
        slot = data.draw(st.sampled_from(sorted(self.held)))
        self.index.add(slot, names)
        self.held[slot].update(dict.fromkeys(names, 1))

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from([slot for slot, held in self.held.items() if held]))
        held = self.held[slot]
        names = data.draw(st.lists(st.sampled_from(sorted(held)), unique=True, min_size=1))
        self.index.remove(slot, names)
        for name in names:
            del held[name]

    @precondition(lambda self: self.held)
    @rule(names=SOME)
    def ask(self, names: list[BlockHash]) -> None:
        """Often enough that all are answered at once."""
        for _ in range(FEW):
            for slot, held in self.held.items():
                assert self.index.n_leading(slot, names, held) == leading(names, held)

    @invariant()
    def it_holds_what_they_hold(self) -> None:
        self.index.check_invariants(self.held)
        for name in NAMES:
            holders = [slot for slot in sorted(self.held) if name in self.held[slot]]
            assert self.index.holders(name) == holders


TestIndex = IndexMachine.TestCase
TestIndex.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_an_answer_does_not_outlive_what_it_was_about() -> None:
    index, names = PrefixIndex(), NAMES[:3]
    slots = [index.join() for _ in range(40)]
    for _ in range(FEW + 1):
        assert index.n_leading(slots[5], names, {}) == 0
    index.add(slots[5], NAMES[:2])
    held = dict.fromkeys(NAMES[:2], 1)
    for _ in range(FEW + 1):
        assert index.n_leading(slots[5], names, held) == 2


def test_a_thousand_holders_are_told_apart() -> None:
    index, names = PrefixIndex(), NAMES[:8]
    slots = [index.join() for _ in range(1000)]
    held = [dict.fromkeys(names[: slot % 9], 1) for slot in slots]
    for slot in slots:
        index.add(slot, list(held[slot]))
    found = [index.n_leading(slot, names, held[slot]) for slot in slots]
    assert found == [slot % 9 for slot in slots]


def test_blocks_of_one_prompt_share_one_mask() -> None:
    """Ten million blocks fit into memory by this."""
    index = PrefixIndex()
    first, second = (index.join() for _ in range(100)), index.join()
    for slot in first:
        index.add(slot, NAMES)
    index.add(second, NAMES)
    assert len({id(mask) for mask in index._holders.values()}) == 1
    index.remove(second, NAMES[:6])
    assert len({id(mask) for mask in index._holders.values()}) == 2


def test_the_checker_finds_what_should_not_be_there() -> None:
    index = PrefixIndex()
    slot = index.join()
    index.add(slot, NAMES[:2])
    with pytest.raises(AssertionError, match="11: the prefix index"):
        index.check_invariants({slot: NAMES[:1]})
    with pytest.raises(AssertionError, match="11: the prefix index"):
        index.check_invariants({slot: NAMES[:3]})
