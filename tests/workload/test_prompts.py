"""Prompts have the exact length, share what the trace shares, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.model import ConfigError
from fairlead.workload.draws import draw, draws, stream_key, uniform
from fairlead.workload.prompts import (
    ANY_MODEL,
    OPENING_TOKENS,
    PRINTABLE_BYTES,
    PromptMaker,
    Vocabulary,
    as_text,
)
from fairlead.workload.trace import TraceRow

MAKER = PromptMaker(0, PRINTABLE_BYTES)


def row(index: int, prompt: int, ids: tuple[int, ...] = (), block: int = 16) -> TraceRow:
    return TraceRow(index, 0.0, prompt, 1, ids, block if ids else 0)


@given(
    index=st.integers(0, 10**7),
    prompt=st.integers(1, 300),
    ids=st.lists(st.integers(0, 2**63), max_size=12).map(tuple),
    seed=st.integers(0, 2**31),
)
def test_lengths_are_exact_and_ids_stay_in_the_vocabulary(
    index: int, prompt: int, ids: tuple[int, ...], seed: int
) -> None:
    tokens = PromptMaker(seed, ANY_MODEL).token_ids(row(index, prompt, ids))
    assert len(tokens) == prompt
    assert all(ANY_MODEL.low <= token <= ANY_MODEL.high for token in tokens)
    assert tokens == PromptMaker(seed, ANY_MODEL).token_ids(row(index, prompt, ids))


def shared(a: list[int], b: list[int]) -> int:
    """Leading tokens in common."""
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


@given(
    common=st.lists(st.integers(0, 999), min_size=1, max_size=6, unique=True),
    tail_a=st.integers(1, 60),
    tail_b=st.integers(1, 60),
)
def test_rows_share_the_blocks_that_the_trace_shares_and_no_more(
    common: list[int], tail_a: int, tail_b: int
) -> None:
    a = MAKER.token_ids(row(0, len(common) * 16 + tail_a, tuple(common)))
    b = MAKER.token_ids(row(1, len(common) * 16 + tail_b, tuple(common)))
    in_common = shared(a, b)
    assert in_common >= len(common) * 16
    assert in_common < (len(common) + 1) * 16


def test_a_last_id_may_cover_a_part_of_its_block() -> None:
    part = MAKER.token_ids(row(0, 20, (7, 8)))
    whole = MAKER.token_ids(row(1, 32, (7, 8)))
    assert whole[:20] == part


def test_unrelated_prompts_part_in_their_opening() -> None:
    openings = {tuple(MAKER.token_ids(row(i, 40))[:OPENING_TOKENS]) for i in range(5000)}
    openings |= {tuple(MAKER.token_ids(row(0, 40, (i,)))[:OPENING_TOKENS]) for i in range(5000)}
    assert len(openings) == 10_000


def test_neighbours_part_at_their_first_token() -> None:
    first = [MAKER.token_ids(row(i, 4))[0] for i in range(40)]
    assert len(set(first)) == 40


def test_laps_share_nothing_between_them_and_as_much_within() -> None:
    a = row(0, 64, (1, 2, 3))
    b = row(9, 64, (1, 2, 3))
    assert shared(MAKER.token_ids(a, lap=0), MAKER.token_ids(a, lap=1)) < OPENING_TOKENS
    assert shared(MAKER.token_ids(a, lap=1), MAKER.token_ids(b, lap=1)) >= 48


def test_seeds_make_different_prompts() -> None:
    a = PromptMaker(1, ANY_MODEL).token_ids(row(0, 50))
    assert a != PromptMaker(2, ANY_MODEL).token_ids(row(0, 50))


def test_text_is_exact_for_bytes_and_a_word_a_token_otherwise() -> None:
    tokens = MAKER.token_ids(row(3, 50))
    assert list(as_text(tokens, PRINTABLE_BYTES).encode()) == tokens
    words = as_text(PromptMaker(0, ANY_MODEL).token_ids(row(3, 50)), ANY_MODEL)
    assert len(words.split()) == 50


def test_an_impossible_vocabulary_is_refused() -> None:
    for low, high in ((-1, 5), (9, 9), (9, 8)):
        with pytest.raises(ConfigError, match="impossible"):
            Vocabulary(low, high)


@given(key=st.integers(0, 2**64 - 1), index=st.integers(0, 2**64 - 2))
def test_draws_are_the_same_one_by_one_and_in_arrays(key: int, index: int) -> None:
    import numpy as np

    many = draws(np.array([key], dtype=np.uint64), np.array([index], dtype=np.uint64))
    assert int(many[0]) == draw(key, index)


def test_uniform_draws_are_uniform() -> None:
    key = stream_key(0, "test")
    values = sorted(uniform(key, i) for i in range(20_000))
    assert values[0] >= 0
    assert values[-1] < 1
    assert max(abs(v - i / 20_000) for i, v in enumerate(values)) < 0.02
