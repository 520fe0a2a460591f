"""Waves fit into the engine, and leave no corner out."""

from __future__ import annotations

from itertools import islice

import pytest

from fairlead.client.calibrate.waves import DECODE_TOKENS, NEWCOMERS, Room, Wave, waves

LAPTOP = Room(max_sequences=64, max_context=4096, tokens=65_536)


@pytest.mark.parametrize(
    "room",
    [LAPTOP, Room(1, 64, 64), Room(256, 131_072, 500_000), Room(8, 4096, 2048)],
)
def test_every_wave_fits(room: Room) -> None:
    for wave in islice(waves(room, 3), 300):
        assert 0 <= wave.decodes < max(room.max_sequences, 2)
        assert all(0 < n <= room.max_context - DECODE_TOKENS for n in wave.prompts)
        assert 0 < wave.chunk + wave.cached <= room.max_context
        assert wave.tokens <= max(room.tokens, NEWCOMERS + 2 * DECODE_TOKENS)


def test_every_size_is_seen_in_any_fifty() -> None:
    for begin in (0, 50, 500):
        found = list(islice(waves(LAPTOP, 0), begin, begin + 50))
        # Doublings of batch and of chunk: from 1 to 63 sequences, from 4 to 4064 tokens.
        assert {w.decodes.bit_length() for w in found} == set(range(7))
        assert len({w.chunk.bit_length() for w in found}) >= 9
        assert sum(w.cached > 0 for w in found) >= 10
        assert sum(w.decodes == 0 for w in found) >= 8


def test_seeds_differ_and_repeat() -> None:
    def first(seed: int) -> list[Wave]:
        return list(islice(waves(LAPTOP, seed), 20))

    assert first(1) == first(1) != first(2)


def test_a_wave_shrinks_on_both_sides() -> None:
    wave = Wave(decodes=60, context=1000, chunk=2000, cached=1600)
    thin = wave.within(10_000)
    assert thin.tokens <= 10_000
    assert 1 < thin.decodes < 60
    assert 1 < thin.context < 1000
    assert 1 < thin.chunk < 2000
    assert Wave(0, 8, 4).within(1).chunk == 1


def test_only_what_is_too_much_shrinks() -> None:
    """A batch that is too deep leaves the newcomers their length, and the other way round."""
    deep = Wave(decodes=60, context=1000, chunk=500)
    assert deep.within(10_000).chunk == 500
    long = Wave(decodes=4, context=100, chunk=20_000)
    assert (long.within(10_000).decodes, long.within(10_000).context) == (4, 100)


def test_one_token_of_each_is_left() -> None:
    assert Wave(60, 1000, 2000, 1600).within(1) == Wave(1, 1, 1, 0)
