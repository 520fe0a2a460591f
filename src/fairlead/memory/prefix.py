"""Chain hashes: a full block is named by its tokens and by everything before them.

Two prompts share a name exactly as far as they share a prefix (and a salt), so that a lookup from
the first block onwards finds the longest cached prefix.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from hashlib import blake2b

from fairlead.model import BlockHash

HASH_BYTES = 16
"""128 bits: an accidental collision would serve one prompt with the KV of another."""


def root_hash(salt: bytes) -> BlockHash:
    """The name before the first block. Tenants with different salts share no block, and so cannot
    time each other's cache."""
    return BlockHash(blake2b(salt, digest_size=HASH_BYTES).digest())


def next_hash(parent: BlockHash, block: Sequence[int]) -> BlockHash:
    """The name of a full block that follows `parent`."""
    # Native 64-bit integers hash fastest; hashes never leave one architecture's fleet.
    return BlockHash(blake2b(parent + array("q", block).tobytes(), digest_size=HASH_BYTES).digest())


def chain_hashes(
    token_ids: Sequence[int], block_tokens: int, salt: bytes = b""
) -> tuple[BlockHash, ...]:
    """Names of all full blocks of `token_ids`, first to last."""
    data = array("q", token_ids).tobytes()
    width = 8 * block_tokens
    parent: bytes = root_hash(salt)
    hashes: list[BlockHash] = []
    for start in range(0, len(data) - width + 1, width):
        parent = blake2b(parent + data[start : start + width], digest_size=HASH_BYTES).digest()
        hashes.append(BlockHash(parent))
    return tuple(hashes)
