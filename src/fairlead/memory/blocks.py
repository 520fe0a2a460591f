"""Who holds which KV block: reference counts, prefix sharing, eviction.

Method: vLLM's free-block queue (vllm/v1/core/kv_cache_utils.py) without its linked list: an
insertion-ordered dict is the LRU order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fairlead.model import BlockHash


class BlockPool:
    """Blocks 0 to `n_blocks - 1`, each in exactly one of three states.

    *Used*: somebody holds a reference. *Cached*: nobody does, but its content has a name and can
    be found again. *Free*: neither. Cached blocks are evicted, longest unused first, when free
    ones run out.
    """

    def __init__(self, n_blocks: int) -> None:
        if n_blocks < 1:
            raise ValueError(f"a pool needs at least 1 block, got {n_blocks}")
        self.n_blocks = n_blocks
        self._free = list(range(n_blocks - 1, -1, -1))
        self._references = [0] * n_blocks
        self._name: list[BlockHash | None] = [None] * n_blocks
        self._named: dict[BlockHash, int] = {}
        self._cached: dict[int, None] = {}
        """Cached blocks, the next to be evicted first."""
        self._changes: dict[BlockHash, bool] = {}
        """Names that came (True) or went (False) since the last `drain_changes`; the last word
        about a name counts."""

    @property
    def n_free(self) -> int:
        return len(self._free)

    @property
    def n_cached(self) -> int:
        return len(self._cached)

    @property
    def n_used(self) -> int:
        return self.n_blocks - len(self._free) - len(self._cached)

    @property
    def n_available(self) -> int:
        """Blocks that `allocate` could hand out now."""
        return len(self._free) + len(self._cached)

    def match(self, hashes: Sequence[BlockHash]) -> int:
        """How many leading blocks of `hashes` are here, used or cached."""
        named = self._named
        for n, name in enumerate(hashes):
            if name not in named:
                return n
        return len(hashes)

    def n_idle(self, hashes: Sequence[BlockHash]) -> int:
        """How many of these blocks are here with nobody holding them: taking them by `share`
        costs as much memory as allocating."""
        return sum(1 for name in hashes if self._references[self._named[name]] == 0)

    def share(self, hashes: Iterable[BlockHash]) -> list[int]:
        """Takes a reference on blocks that `match` found, and returns them in order."""
        blocks = [self._named[name] for name in hashes]
        for block in blocks:
            if self._references[block] == 0:
                del self._cached[block]
            self._references[block] += 1
        return blocks

    def allocate(self, n: int) -> list[int]:
        """Hands out `n` blocks with no content; `n` must be at most `n_available`."""
        assert n <= self.n_available, f"{n} blocks wanted, {self.n_available} available"
        blocks = []
        for _ in range(n):
            block = self._free.pop() if self._free else self._evict()
            self._references[block] = 1
            blocks.append(block)
        return blocks

    def publish(self, block: int, name: BlockHash) -> None:
        """From now on the used block, full and computed, is found by `name`.

        Where another block already has the name it stays with that one: identical blocks computed
        at the same time are not merged.
        """
        assert self._references[block] > 0, f"block {block} is not in use"
        if name in self._named or self._name[block] is not None:
            return
        self._name[block] = name
        self._named[name] = block
        self._changes[name] = True

    def release(self, blocks: Sequence[int]) -> None:
        """Gives back one reference on each block of one sequence.

        The tail goes first, so that a deep suffix is evicted before the head that others share.
        """
        for block in reversed(blocks):
            count = self._references[block] - 1
            assert count >= 0, f"block {block} was released twice"
            self._references[block] = count
            if count == 0:
                if self._name[block] is None:
                    self._free.append(block)
                else:
                    self._cached[block] = None

    def drain_changes(self) -> tuple[tuple[BlockHash, ...], tuple[BlockHash, ...]]:
        """Names that became findable, and names that were evicted, since the last call."""
        changes, self._changes = self._changes, {}
        return (
            tuple(name for name, came in changes.items() if came),
            tuple(name for name, came in changes.items() if not came),
        )

    def names(self) -> tuple[BlockHash, ...]:
        """Every name that `match` would find."""
        return tuple(self._named)

    def references(self, block: int) -> int:
        return self._references[block]

    def _evict(self) -> int:
        block = next(iter(self._cached))
        del self._cached[block]
        name = self._name[block]
        assert name is not None, f"cached block {block} has no name"
        self._name[block] = None
        del self._named[name]
        self._changes[name] = False
        return block

    def check_invariants(self) -> None:
        """Blocks are conserved: invariant 3."""
        free, cached = set(self._free), set(self._cached)
        used = {block for block in range(self.n_blocks) if self._references[block] > 0}
        assert len(free) == len(self._free), "a block is free twice"
        assert not free & cached, f"free and cached: {free & cached}"
        assert not used & (free | cached), f"in use and free: {used & (free | cached)}"
        assert len(free) + len(cached) + len(used) == self.n_blocks, "blocks were lost"
        assert all(self._name[block] is not None for block in cached), "cached without a name"
        assert all(self._name[block] is None for block in free), "free with a name"
        assert {self._name[block]: block for block in self._named.values()} == self._named
