"""Who holds which KV block: reference counts, prefix sharing, eviction.

Method: vLLM's free-block queue (vllm/v1/core/kv_cache_utils.py) without its linked list:
insertion-ordered dicts, one for each owner of cached prefixes, are the LRU order. Blocks without a
name have one holder and nothing to remember, so they change hands by the slice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fairlead.memory.cached import Cached
from fairlead.model import BlockHash


class BlockPool:
    """Blocks 0 to `n_blocks - 1`, each in exactly one of three states.

    *Used*: somebody holds a reference. *Cached*: nobody does, but its content has a name and can
    be found again. *Free*: neither. Cached blocks are evicted when free ones run out, in the order
    that `Cached` says.

    An `owner` is the salt that the names of a sequence's blocks were made with: a name, and so
    every block that has it, is of one owner.
    """

    def __init__(self, n_blocks: int) -> None:
        if n_blocks < 1:
            raise ValueError(f"a pool needs at least 1 block, got {n_blocks}")
        self.n_blocks = n_blocks
        self.n_available = n_blocks
        """Blocks that `allocate` could hand out now."""
        self._free = list(range(n_blocks - 1, -1, -1))
        self._name: dict[int, BlockHash] = {}
        """Of blocks whose content can be found."""
        self._named: dict[BlockHash, int] = {}
        self._twins: dict[BlockHash, dict[int, None]] = {}
        """More blocks of the same name: the same content, computed twice."""
        self._holders: dict[int, int] = {}
        """Of named blocks, the references to them; 0 where cached."""
        self._cached = Cached()
        self._changes: dict[BlockHash, bool] = {}
        """Names that came (True) or went (False) since the last `drain_changes`; the last word
        about a name counts."""

    @property
    def n_free(self) -> int:
        return len(self._free)

    @property
    def n_cached(self) -> int:
        return self.n_available - len(self._free)

    @property
    def n_used(self) -> int:
        return self.n_blocks - self.n_available

    def match(self, hashes: Sequence[BlockHash]) -> int:
        """How many leading blocks of `hashes` are here, used or cached."""
        named = self._named
        if not named:
            return 0
        for n, name in enumerate(hashes):
            if name not in named:
                return n
        return len(hashes)

    def n_idle(self, hashes: Sequence[BlockHash]) -> int:
        """How many of these blocks are here with nobody holding them: taking them by `share`
        costs as much memory as allocating."""
        holders, named = self._holders, self._named
        return sum(1 for name in hashes if holders[named[name]] == 0)

    def share(self, hashes: Iterable[BlockHash], owner: bytes) -> list[int]:
        """Takes a reference on blocks that `match` found, and returns them in order."""
        blocks = [self._named[name] for name in hashes]
        cached = self._cached.of(owner)
        for block in blocks:
            if self._holders[block] == 0:
                del cached[block]
                self.n_available -= 1
            self._holders[block] += 1
        return blocks

    def allocate(self, n: int) -> list[int]:
        """Hands out `n` blocks with no content; `n` must be at most `n_available`."""
        assert 0 <= n <= self.n_available, f"{n} blocks wanted, {self.n_available} available"
        free = self._free
        self.n_available -= n
        kept = len(free) - n
        if kept >= 0:
            blocks = free[kept:]
            del free[kept:]
        else:
            blocks = free[:]
            free.clear()
            blocks += self._evict(-kept)
        return blocks

    def publish(self, blocks: Sequence[int], names: Sequence[BlockHash]) -> None:
        """From now on these used blocks, full and computed, are found by their names.

        Where another block already has a name it is found first; identical blocks are not merged,
        and this one takes over when that one is evicted.
        """
        named, name_of = self._named, self._name
        if named.keys().isdisjoint(names) and name_of.keys().isdisjoint(blocks):
            named.update(zip(names, blocks, strict=True))
            name_of.update(zip(blocks, names, strict=True))
            self._holders.update(dict.fromkeys(blocks, 1))
            self._changes.update(dict.fromkeys(names, True))
            return
        for block, name in zip(blocks, names, strict=True):
            if block in name_of:
                continue
            name_of[block] = name
            self._holders[block] = 1
            if name in named:
                self._twins.setdefault(name, {})[block] = None
            else:
                named[name] = block
                self._changes[name] = True

    def release(self, blocks: Sequence[int], owner: bytes, now: float) -> None:
        """Gives back one reference on each block of one sequence; `now` never runs back.

        The tail goes first, so that a deep suffix is evicted before the head that others share.
        """
        if not self._name:
            self._free += blocks[::-1]
            self.n_available += len(blocks)
            assert self.n_available <= self.n_blocks, "a block was released twice"
            return
        free, holders, cached = self._free, self._holders, self._cached.let_go_by(owner, now)
        for block in reversed(blocks):
            count = holders.get(block)
            if count is None:
                free.append(block)
                self.n_available += 1
                continue
            assert count > 0, f"block {block} was released twice"
            holders[block] = count - 1
            if count == 1:
                cached[block] = now
                self.n_available += 1

    def drain_changes(self) -> tuple[tuple[BlockHash, ...], tuple[BlockHash, ...]]:
        """Names that became findable, and names that were evicted, since the last call."""
        if not self._changes:
            return (), ()
        changes, self._changes = self._changes, {}
        return (
            tuple(name for name, came in changes.items() if came),
            tuple(name for name, came in changes.items() if not came),
        )

    def names(self) -> tuple[BlockHash, ...]:
        """Every name that `match` would find."""
        return tuple(self._named)

    def _evict(self, n: int) -> list[int]:
        """Takes the names of the `n` cached blocks whose turn it is."""
        evicted = self._cached.evict(n)
        name_of, named = self._name, self._named
        for block in evicted:
            name = name_of.pop(block)
            del self._holders[block]
            if name in self._twins:
                self._hand_over(block, name)
            else:
                del named[name]
                self._changes[name] = False
        return evicted

    def _hand_over(self, block: int, name: BlockHash) -> None:
        """A block is gone whose twin is found by its name from now on."""
        twins = self._twins[name]
        if self._named[name] == block:
            block = self._named[name] = next(iter(twins))
        del twins[block]
        if not twins:
            del self._twins[name]

    def check_invariants(self, held: Iterable[Sequence[int]] | None = None) -> None:
        """Blocks are conserved: invariant 3. `held`, where given, are the blocks of everybody who
        holds any; then no block is lost, and none has a holder that nobody counted."""
        free, cached = set(self._free), set(self._cached.blocks())
        assert len(free) == len(self._free), "a block is free twice"
        assert len(cached) == len(self._cached.blocks()), "a block has two owners"
        assert not free & cached, f"free and cached: {free & cached}"
        assert self.n_available == len(free) + len(cached)
        assert free | cached <= set(range(self.n_blocks)), "a block from nowhere"
        assert cached <= set(self._name), "cached without a name"
        assert not free & set(self._name), "free with a name"
        assert set(self._name) == set(self._holders)
        assert {block for block, n in self._holders.items() if n == 0} == cached
        assert {self._name[block]: block for block in self._named.values()} == self._named
        if held is None:
            return
        counted: dict[int, int] = {}
        for blocks in held:
            for block in blocks:
                counted[block] = counted.get(block, 0) + 1
        used = {
            block: self._holders.get(block, 1)
            for block in range(self.n_blocks)
            if block not in free and block not in cached
        }
        assert counted == used, f"held {counted}, and the pool counts {used}"
