from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fairlead.text import NANO, PASSAGE, Tokenizer, passage_tokens

nano = Tokenizer.load(NANO)


def test_the_passage_is_plain_ascii_of_a_few_kilobytes() -> None:
    assert PASSAGE.isascii()
    assert 3000 <= len(PASSAGE) <= 6000


@given(st.integers(), st.integers(0, 20_000), st.integers(0, 300), st.integers(0, 300))
def test_a_reading_goes_on_where_it_was_cut(seed: int, start: int, first: int, more: int) -> None:
    whole = passage_tokens(nano, seed, start, first + more)
    assert len(whole) == first + more
    assert whole[:first] == passage_tokens(nano, seed, start, first)
    assert whole[first:] == passage_tokens(nano, seed, start + first, more)


def test_a_reading_never_ends() -> None:
    twice = passage_tokens(nano, 1, 0, 2 * len(PASSAGE))
    assert twice[: len(PASSAGE)] == twice[len(PASSAGE) :]
    assert nano.decode(twice) in PASSAGE * 3


def test_seeds_begin_at_different_places() -> None:
    begins = {tuple(passage_tokens(nano, seed, 0, 40)) for seed in range(50)}
    assert len(begins) > 40


def test_every_kind_of_tokenizer_reads_it(tokenizers_by_kind: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers_by_kind["byte-level"]
    ids = passage_tokens(tokenizer, 3, 5, 400)
    assert tokenizer.decode(ids) in PASSAGE * 2
    assert not tokenizer.special_ids & set(ids)
