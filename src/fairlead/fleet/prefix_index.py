"""Which instances hold which prefix blocks: one index for all instances of a fleet.

A block's name maps to a bitmask of those who hold it, so that how much of a prompt each of a
thousand instances holds is found in one walk over the prompt. Blocks that the same instances hold
mostly share one mask: names that come together are given the same object, which keeps the memory
small, and lets a walk pass over them quickly.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from fairlead.model import BlockHash

FEW = 8
"""Questions about one prompt that are answered one by one; with the next all are answered."""


class PrefixIndex:
    """Knows each holder by a slot, which another may have once it has left."""

    __slots__ = ("_asked", "_bits", "_free_slots", "_holders", "leading", "prompt")

    def __init__(self) -> None:
        self._holders: dict[BlockHash, int] = {}
        """Of each block, the bits of the slots that hold it."""
        self._bits: list[int] = []
        """Of each slot; blocks with a single holder share these objects."""
        self._free_slots: list[int] = []
        self.prompt: Sequence[BlockHash] = ()
        """That was asked about last. It is told from others by being the same object."""
        self._asked = 0
        """How often, since anything changed."""
        self.leading: list[int] | None = None
        """Of that prompt, the leading blocks that each slot holds, once many have been asked."""

    def __len__(self) -> int:
        """Blocks that anybody holds."""
        return len(self._holders)

    def join(self) -> int:
        """A slot for somebody who holds nothing yet."""
        if self._free_slots:
            return self._free_slots.pop()
        self._bits.append(1 << len(self._bits))
        self._changed()
        return len(self._bits) - 1

    def leave(self, slot: int, names: Iterable[BlockHash]) -> None:
        """Takes the slot back from its holder, who held exactly these blocks."""
        self.remove(slot, names)
        self._free_slots.append(slot)

    def n_leading(self, slot: int, names: Sequence[BlockHash], own: Mapping[BlockHash, int]) -> int:
        """How many leading blocks of a prompt the slot holds, where `own` are all its blocks."""
        if names is not self.prompt:
            self._changed()
            self.prompt = names
        self._asked += 1
        if self._asked <= FEW:
            return _n_leading(names, own)
        if self.leading is None:
            self.leading = self._walk(names)
        return self.leading[slot]

    def add(self, slot: int, names: Collection[BlockHash]) -> None:
        """These are held in the slot from now on."""
        if not names:
            return
        self._changed()
        holders, bit = self._holders, self._bits[slot]
        if holders.keys().isdisjoint(names):
            holders.update(dict.fromkeys(names, bit))
            return
        last, more = 0, bit
        for name in names:
            mask = holders.get(name, 0)
            if mask != last:
                last, more = mask, mask | bit
            holders[name] = more

    def remove(self, slot: int, names: Iterable[BlockHash]) -> None:
        """These are no longer held in the slot."""
        self._changed()
        holders, bit = self._holders, self._bits[slot]
        last = less = 0
        for name in names:
            mask = holders[name]
            if mask != last:
                last, less = mask, self._shared(mask & ~bit)
            if less:
                holders[name] = less
            else:
                del holders[name]

    def holders(self, name: BlockHash) -> list[int]:
        """Slots that hold this block."""
        return _slots(self._holders.get(name, 0))

    def _walk(self, names: Sequence[BlockHash]) -> list[int]:
        """The leading blocks held in each slot."""
        found = [0] * len(self._bits)
        holders = self._holders
        n, last, all_of_it = 0, -1, -1
        """`all_of_it` are those who hold the first `n` blocks without a gap."""
        for name in names:
            mask = holders.get(name, 0)
            if mask != last:
                last, still = mask, all_of_it & mask
                if n and still != all_of_it:
                    for slot in _slots(all_of_it ^ still):
                        found[slot] = n
                all_of_it = still
                if not all_of_it:
                    return found
            n += 1
        if n:
            for slot in _slots(all_of_it):
                found[slot] = n
        return found

    def _shared(self, mask: int) -> int:
        """The object that stands for a mask of one holder."""
        return mask if mask & (mask - 1) else self._bits[mask.bit_length() - 1] if mask else 0

    def _changed(self) -> None:
        self.prompt, self._asked, self.leading = (), 0, None

    def check_invariants(self, held: Mapping[int, Iterable[BlockHash]]) -> None:
        """It says of everybody what they hold, and nothing else: `held` are the blocks by slot."""
        masks: dict[BlockHash, int] = {}
        for slot, names in held.items():
            assert slot not in self._free_slots, f"slot {slot} is free, and held"
            for name in names:
                masks[name] = masks.get(name, 0) | 1 << slot
        assert masks == self._holders, "11: the prefix index is not what its instances hold"


def _n_leading(names: Sequence[BlockHash], own: Mapping[BlockHash, int]) -> int:
    n = 0
    for name in names:
        if name not in own:
            break
        n += 1
    return n


def _slots(mask: int) -> list[int]:
    """The bits that are set, lowest first. Through their digits: shifting a wide number bit by bit
    would copy it each time."""
    digits = bin(mask)[:1:-1]
    found = []
    slot = digits.find("1")
    while slot >= 0:
        found.append(slot)
        slot = digits.find("1", slot + 1)
    return found
