"""A server's events of its prefix cache, put into our names for blocks. Opens nothing.

vLLM publishes which blocks it stores, with their tokens and the block before them, and which it
evicts. It names them by hashes of its own, so each is named anew here after its tokens: its blocks
may be a multiple of ours. What belongs to a salt is named by that salt, so that the prefixes of
tenants stay apart. Events are maps since vLLM 0.11 and arrays in older ones and in SGLang; both are
read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from fairlead.memory.prefix import next_hash, root_hash
from fairlead.model import BlockHash, ConfigError
from fairlead.worker.opaque.load import CacheNews

Theirs = int | bytes
_IN_REACH = (None, "GPU")
"""Memory from which a prefix is used at once; other tiers are not counted as cached."""
_ARRAYS: Mapping[str, Sequence[str]] = {
    "BlockStored": (
        "block_hashes",
        "parent_block_hash",
        "token_ids",
        "block_size",
        "lora_id",
        "medium",
    ),
    "BlockRemoved": ("block_hashes", "medium"),
    "AllBlocksCleared": (),
}
"""The fields of events that come as arrays, in order."""


class KvEvents:
    """Turns batches of events into news of the cache."""

    def __init__(
        self, cache: CacheNews, block_tokens: int, salt_of: Callable[[str], bytes | None]
    ) -> None:
        """`salt_of` knows the salt behind the text that a server got for it."""
        self._cache = cache
        self._block_tokens = block_tokens
        self._salt_of = salt_of
        self._names: dict[Theirs, tuple[BlockHash, ...]] = {}
        """Ours for each block of theirs, one or several."""

    def forget(self) -> None:
        """Events were lost, or the server began anew: what is there is not known."""
        self._names.clear()
        self._cache.clear()

    def take(self, payload: bytes) -> None:
        """One batch. Raises `ConfigError` where the sizes of blocks do not fit; what cannot be read
        is passed over."""
        try:
            batch = msgspec.msgpack.decode(payload)
        except msgspec.MsgspecError:
            return
        if not isinstance(batch, list) or len(batch) < 2 or not isinstance(batch[1], list):
            return
        for event in batch[1]:
            self._take_one(_as_map(event))

    def _take_one(self, event: Mapping[str, Any]) -> None:
        kind = event.get("type")
        if kind == "AllBlocksCleared":
            self.forget()
        elif event.get("medium") not in _IN_REACH:
            return
        elif kind == "BlockStored":
            self._stored(event)
        elif kind == "BlockRemoved":
            for theirs in event.get("block_hashes") or ():
                self._cache.evicted(self._names.pop(theirs, ()))

    def _stored(self, event: Mapping[str, Any]) -> None:
        size, tokens = event.get("block_size"), event.get("token_ids")
        if not isinstance(size, int) or not isinstance(tokens, list):
            return
        self._check_size(size)
        parent = self._parent(event)
        if parent is None:
            return
        for i, theirs in enumerate(event.get("block_hashes") or ()):
            block = tokens[i * size : (i + 1) * size]
            names = tuple(self._named(parent, block))
            if len(block) < size or not names:
                return
            parent = names[-1]
            self._names[theirs] = names
            self._cache.stored(names)

    def _parent(self, event: Mapping[str, Any]) -> BlockHash | None:
        """Our name for what comes before; None where it is not known, or of a stranger's salt."""
        before = event.get("parent_block_hash")
        if before is not None:
            known = self._names.get(before)
            return known[-1] if known else None
        keys = (event.get("extra_keys") or [None])[0] or ()
        salts = [self._salt_of(key) if isinstance(key, str) else None for key in keys]
        if not salts:
            return root_hash(b"")
        return root_hash(salts[0]) if len(salts) == 1 and salts[0] is not None else None

    def _named(self, parent: BlockHash, tokens: Sequence[int]) -> Iterator[BlockHash]:
        for start in range(0, len(tokens), self._block_tokens):
            parent = next_hash(parent, tokens[start : start + self._block_tokens])
            yield parent

    def _check_size(self, size: int) -> None:
        if size % self._block_tokens:
            raise ConfigError(
                f"the server caches blocks of {size} tokens, which blocks of {self._block_tokens} "
                f"do not divide; set block_tokens to {size} or a part of it, or start the server "
                f"with --block-size {self._block_tokens}"
            )


def _as_map(event: object) -> Mapping[str, Any]:
    if isinstance(event, dict):
        return event
    if isinstance(event, list) and event and isinstance(event[0], str):
        return {"type": event[0], **dict(zip(_ARRAYS.get(event[0], ()), event[1:], strict=False))}
    return {}
