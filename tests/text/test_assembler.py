from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.text import NANO, Assembler, Tokenizer

nano = Tokenizer.load(NANO)
KINDS = ["nano", "byte-level", "sentence-piece", "word-piece"]

texts = st.lists(st.sampled_from(["a", "b", "ab", " ", "the ship", "é", "日本", "🚢"])).map("".join)
stops = st.lists(st.text("ab é日", min_size=1, max_size=5), max_size=3)


@st.composite
def token_ids(draw: st.DrawFn, tokenizer: Tokenizer) -> list[int]:
    """Text mixed with arbitrary tokens, among them invalid bytes and ids without a token."""
    parts = st.one_of(
        texts.map(tokenizer.encode), st.lists(st.integers(0, tokenizer.vocab_size), max_size=4)
    )
    return [token_id for part in draw(st.lists(parts, max_size=6)) for token_id in part]


def whole_text(tokenizer: Tokenizer, ids: Sequence[int], stop: Sequence[str] = ()) -> str:
    """The text of all of `ids`, one token at a time."""
    assembler = Assembler(tokenizer, stop)
    return "".join([assembler.feed([token_id])[0] for token_id in ids]) + assembler.flush()


@pytest.fixture(params=KINDS)
def tokenizer(
    request: pytest.FixtureRequest, tokenizers_by_kind: dict[str, Tokenizer]
) -> Tokenizer:
    return tokenizers_by_kind[request.param]


def check_with(tokenizer: Tokenizer, property_of: Callable[[list[int], list[str]], None]) -> None:
    given(token_ids(tokenizer), stops)(property_of)()


def test_all_that_leaves_is_the_text_of_all_tokens(tokenizer: Tokenizer) -> None:
    def check(ids: list[int], stop: list[str]) -> None:
        assert whole_text(tokenizer, ids) == tokenizer.decode(ids)

    check_with(tokenizer, check)


def test_one_built_elsewhere_goes_on_where_the_first_stopped_at_every_cut(
    tokenizer: Tokenizer,
) -> None:
    def check(ids: list[int], stop: list[str]) -> None:
        first = Assembler(tokenizer, stop)
        left = [first.feed([token_id]) for token_id in ids]
        rest = first.flush()
        for cut in range(len(ids) + 1):
            second = Assembler(tokenizer, stop, ids[:cut])
            assert [second.feed([token_id]) for token_id in ids[cut:]] == left[cut:]
            assert second.flush() == rest

    check_with(tokenizer, check)


def test_how_tokens_are_grouped_does_not_matter(tokenizer: Tokenizer) -> None:
    def check(ids: list[int], stop: list[str]) -> None:
        alone, together = Assembler(tokenizer, stop), Assembler(tokenizer, stop)
        text = "".join([alone.feed([token_id])[0] for token_id in ids])
        assert together.feed(ids) == (text, alone.stopped)
        assert together.flush() == alone.flush()

    check_with(tokenizer, check)


def test_text_ends_before_the_first_stop_string(tokenizer: Tokenizer) -> None:
    def check(ids: list[int], stop: list[str]) -> None:
        free = Assembler(tokenizer, ())
        text, expected = "", None
        pieces = [free.feed([token_id])[0] for token_id in ids]
        for piece in [*pieces, free.flush()]:
            text += piece
            found = [text.index(one) for one in stop if one in text]
            if found and expected is None:
                expected = text[: min(found)]
        assert whole_text(tokenizer, ids, stop) == (text if expected is None else expected)

    check_with(tokenizer, check)


def test_nothing_more_is_held_back_than_a_stop_string_may_need() -> None:
    @given(token_ids(nano), stops)
    def check(ids: list[int], stop: list[str]) -> None:
        assembler, free = Assembler(nano, stop), Assembler(nano, ())
        left = certain = ""
        for token_id in ids:
            left += assembler.feed([token_id])[0]
            certain += free.feed([token_id])[0]
            held = certain[len(left) :]
            if assembler.stopped:
                return
            assert not held or any(one.startswith(held) for one in stop)

    check()


def test_a_character_leaves_when_it_is_complete() -> None:
    assembler = Assembler(nano, ())
    assert [assembler.feed([byte])[0] for byte in "a🚢b".encode()] == ["a", "", "", "", "🚢", "b"]


def test_an_incomplete_character_at_the_end_becomes_a_placeholder() -> None:
    assembler = Assembler(nano, ())
    assert assembler.feed("🚢".encode()[:3]) == ("", False)
    assert assembler.flush() == "�"


def test_bytes_that_can_become_no_character_do_not_hold_back_what_follows() -> None:
    assembler = Assembler(nano, ())
    assert [assembler.feed([byte])[0] for byte in b"\xffa\xe6b"] == ["�", "a", "", "�b"]


def test_a_stop_string_over_several_tokens_never_leaves() -> None:
    assembler = Assembler(nano, ["END"])
    left = [assembler.feed([byte]) for byte in b"an EEND!"]
    assert left[:6] == [
        ("a", False),
        ("n", False),
        (" ", False),
        ("", False),
        ("E", False),
        ("", False),
    ]
    assert left[6:] == [("", True), ("", True)]
    assert assembler.flush() == ""


def test_a_beginning_of_a_stop_string_leaves_at_the_end() -> None:
    assembler = Assembler(nano, ["END"])
    assert assembler.feed(nano.encode("the EN")) == ("the ", False)
    assert assembler.flush() == "EN"


def test_of_two_stop_strings_the_one_that_begins_first_counts() -> None:
    assembler = Assembler(nano, ["cd", "bc"])
    assert assembler.feed(nano.encode("abcd")) == ("a", True)


def test_a_stop_string_within_the_first_tokens_is_text() -> None:
    assembler = Assembler(nano, ["."], min_tokens=3)
    assert assembler.feed(nano.encode("a.b.c")) == ("a.b", True)


def test_an_empty_stop_string_stops_nothing() -> None:
    assert Assembler(nano, [""]).feed(nano.encode("abc")) == ("abc", False)


def test_the_space_before_the_first_word_is_left_out_and_the_others_are_kept(
    tokenizers_by_kind: dict[str, Tokenizer],
) -> None:
    tokenizer = tokenizers_by_kind["sentence-piece"]
    ids = tokenizer.encode("the ship")
    assembler = Assembler(tokenizer, ())
    assert "".join([assembler.feed([token_id])[0] for token_id in ids]) == "the ship"
    assert Assembler(tokenizer, (), ids).feed(tokenizer.encode("a ship")) == (" a ship", False)


def test_words_that_depend_on_the_token_before_are_joined_as_the_library_joins_them(
    tokenizers_by_kind: dict[str, Tokenizer],
) -> None:
    tokenizer = tokenizers_by_kind["word-piece"]
    assembler = Assembler(tokenizer, ())
    left = [assembler.feed([token_id])[0] for token_id in tokenizer.encode("the ship sails and a")]
    assert left == ["the", " ship", " sail", "s", " and", " a"]
