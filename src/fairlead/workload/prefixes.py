"""Names of a row's KV blocks, made of the trace's own prefix ids instead of tokens.

The ids of a trace are chained: an equal id means equal content from the first token up to the end
of its block. So a KV block that ends inside a trace block is named by that block's id and by its
own place in the prompt: two names are equal exactly where the trace says that the contents are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from struct import Struct

from fairlead.model import BlockHash
from fairlead.workload.row import TraceRow

KEPT_NAMES = 1 << 20
"""Names kept for prefixes that come again: some 60 MB."""
CHUNK_NAMES = 128
"""Names that are kept and found together."""
_ID = Struct("<Q")
_PLACE = Struct("<I")
_MASK = (1 << 64) - 1

Names = tuple[BlockHash, ...]


class BlockNamer:
    """Names blocks of one size for traces with one block size; remembers what it named lately."""

    def __init__(self, block_tokens: int, hash_block_tokens: int) -> None:
        assert block_tokens > 0, f"blocks of {block_tokens} tokens"
        assert hash_block_tokens > 0, f"trace blocks of {hash_block_tokens} tokens"
        self._block_tokens = block_tokens
        self._size = hash_block_tokens
        self._chunk_ids = max(CHUNK_NAMES * block_tokens // hash_block_tokens, 1)
        """Ids whose blocks are kept together, under all of them: another trace may give the last
        of them to another content."""
        self._kept: dict[tuple[tuple[int, ...], int, bytes], Names] = {}
        self._most_kept = KEPT_NAMES // CHUNK_NAMES
        self._places: list[bytes] = []
        """Every place of a block in a prompt, as bytes."""

    def names(self, row: TraceRow, salt: bytes = b"") -> Names:
        """Names of all full blocks of the prompt that the row's ids cover, first to last."""
        covered = min(row.prompt_tokens, len(row.hash_ids) * self._size)
        # Ids beyond the prompt name nothing in it.
        ids = tuple(islice(row.hash_ids, -(-covered // self._size)))
        n_blocks = covered // self._block_tokens
        while len(self._places) < len(ids) * self._size // self._block_tokens:
            self._places.append(_PLACE.pack(len(self._places)))
        names: list[BlockHash] = []
        for start in range(0, len(ids), self._chunk_ids):
            names += self._chunk(ids[start : start + self._chunk_ids], start, salt)
        return tuple(names) if len(names) <= n_blocks else tuple(names[:n_blocks])

    def _chunk(self, ids: tuple[int, ...], start: int, salt: bytes) -> Sequence[BlockHash]:
        """Of the blocks that end inside these trace blocks, the first of them at `start`."""
        if len(ids) < self._chunk_ids:
            return self._named(ids, start, salt)
        key = ids, start, salt
        kept = self._kept.pop(key, None)
        if kept is None:
            kept = tuple(self._named(ids, start, salt))
            if len(self._kept) >= self._most_kept:
                del self._kept[next(iter(self._kept))]
        self._kept[key] = kept  # now the one used last
        return kept

    def _named(self, ids: Sequence[int], start: int, salt: bytes) -> list[BlockHash]:
        size, block, places = self._size, self._block_tokens, self._places
        names: list[bytes] = []
        for place, id in enumerate(ids, start):
            head = salt + _ID.pack(id & _MASK)
            inside = places[place * size // block : (place + 1) * size // block]
            names += [head + suffix for suffix in inside]
        return names  # type: ignore[return-value]


def block_names(row: TraceRow, block_tokens: int, salt: bytes = b"") -> Names:
    """Names of the row's full blocks of `block_tokens`, as far as its ids cover its prompt; equal
    names mean equal prompts up to the end of that block. Different salts share no name."""
    if not row.hash_ids or row.hash_block_tokens <= 0:
        return ()
    return _namer(block_tokens, row.hash_block_tokens).names(row, salt)


@lru_cache(maxsize=4)
def _namer(block_tokens: int, hash_block_tokens: int) -> BlockNamer:
    return BlockNamer(block_tokens, hash_block_tokens)
