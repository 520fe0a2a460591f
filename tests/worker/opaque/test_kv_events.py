"""vLLM's cache events, put into our names for blocks."""

from __future__ import annotations

import msgspec
import pytest

from fairlead.memory.prefix import chain_hashes
from fairlead.model import ConfigError
from fairlead.worker.opaque.kv_events import KvEvents
from fairlead.worker.opaque.load import CacheNews

TOKENS = list(range(100, 164))


def batch(*events: object) -> bytes:
    return msgspec.msgpack.encode([1.0, list(events), 0])


def stored(hashes, tokens, parent=None, size=32, salt=None, **more):
    keys = [[salt]] + [None] * (len(hashes) - 1) if salt else None
    return {
        "type": "BlockStored",
        "block_hashes": hashes,
        "parent_block_hash": parent,
        "token_ids": tokens,
        "block_size": size,
        "lora_id": None,
        "medium": "GPU",
        "extra_keys": keys,
        **more,
    }


def events(block_tokens: int = 16) -> tuple[KvEvents, CacheNews]:
    cache = CacheNews()
    return KvEvents(cache, block_tokens, {"s4lt": b"acme"}.get), cache


def test_blocks_are_named_after_their_tokens_also_where_theirs_are_larger():
    kv, cache = events()
    kv.take(batch(stored([b"x"], TOKENS[:32])))
    kv.take(batch(stored([b"y"], TOKENS[32:], parent=b"x")))
    assert tuple(cache.here) == chain_hashes(TOKENS, 16)


def test_several_blocks_may_come_in_one_event():
    kv, cache = events(32)
    kv.take(batch(stored([1, 2], TOKENS)))
    assert tuple(cache.here) == chain_hashes(TOKENS, 32)


def test_what_is_evicted_goes_with_all_our_blocks_in_it():
    kv, cache = events()
    kv.take(batch(stored([1, 2], TOKENS)))
    kv.take(batch({"type": "BlockRemoved", "block_hashes": [2, 99], "medium": "GPU"}))
    assert tuple(cache.here) == chain_hashes(TOKENS[:32], 16)
    kv.take(batch({"type": "AllBlocksCleared"}))
    assert not cache.here


def test_what_belongs_to_a_salt_is_named_by_it():
    kv, cache = events()
    kv.take(batch(stored([1], TOKENS[:32], salt="s4lt")))
    assert tuple(cache.here) == chain_hashes(TOKENS[:32], 16, b"acme")


def test_what_belongs_to_a_stranger_is_passed_over_with_all_that_follows():
    kv, cache = events()
    kv.take(batch(stored([1], TOKENS[:32], salt="who?")))
    kv.take(batch(stored([2], TOKENS[32:], parent=1)))
    assert not cache.here


def test_other_memories_do_not_count_as_cached():
    kv, cache = events()
    kv.take(batch(stored([1], TOKENS[:32], medium="CPU")))
    assert not cache.here


def test_older_events_are_arrays():
    kv, cache = events()
    kv.take(batch(["BlockStored", [5, 6], None, TOKENS, 32, None]))
    kv.take(batch(["BlockRemoved", [6]]))
    assert tuple(cache.here) == chain_hashes(TOKENS[:32], 16)


def test_blocks_that_ours_do_not_divide_are_an_error_that_says_what_to_set():
    kv, _ = events(24)
    with pytest.raises(ConfigError, match="set block_tokens to 32 or a part of it"):
        kv.take(batch(stored([1], TOKENS[:32])))


@pytest.mark.parametrize("payload", [b"", b"\xc1", msgspec.msgpack.encode({"a": 1}), batch(3, [])])
def test_garbage_is_passed_over(payload):
    kv, cache = events()
    kv.take(payload)
    assert not cache.here


def test_news_are_told_once_and_counted_as_they_are_told():
    cache = CacheNews()
    a, b, c = chain_hashes(TOKENS[:48], 16)
    cache.stored([a, b])
    cache.evicted([b])
    assert cache.drain(whole=False) == ((a,), (b,))
    assert cache.n_told == 2
    assert cache.drain(whole=False) == ((), ())
    cache.stored([c])
    cache.evicted([a])
    assert cache.drain(whole=True) == ((c,), ())
    assert cache.n_told == 4
