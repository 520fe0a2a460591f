from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from fairlead.model import ModelError, RequestError
from fairlead.text import NANO, Tokenizer, model_folder

nano = Tokenizer.load(NANO)
reference = tokenizers.Tokenizer.from_file(str(model_folder(NANO) / "tokenizer.json"))
texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.text(string.printable).filter(lambda text: "<|" not in text))
def test_ascii_text_has_one_token_a_character(text: str) -> None:
    assert len(nano.encode(text)) == len(text)


@given(texts)
def test_text_comes_back_from_its_tokens(text: str) -> None:
    assert nano.decode(nano.encode(text)) == text


@given(st.lists(st.sampled_from(["a", " ", "é", "<|", "|>", "<|end|>", "<|user|>", "日"])))
def test_the_fast_path_for_bytes_gives_the_ids_of_the_library(parts: list[str]) -> None:
    assert nano.encode("".join(parts)) == reference.encode("".join(parts)).ids


@given(st.lists(st.integers(0, 261)))
def test_nano_decodes_any_bytes_as_the_library_does(ids: list[int]) -> None:
    assert nano.decode(ids) == reference.decode(ids)


def test_byte_level_tokens_decode_as_the_library_does(
    tokenizers_by_kind: dict[str, Tokenizer], write_model: Callable[..., Path]
) -> None:
    library = tokenizers.Tokenizer.from_file(str(write_model("byte-level") / "tokenizer.json"))
    ours = tokenizers_by_kind["byte-level"]

    @given(st.lists(st.integers(0, library.get_vocab_size() - 1)))
    def check(ids: list[int]) -> None:
        assert ours.decode(ids) == library.decode(ids)

    check()


def test_sentence_piece_text_decodes_as_the_library_does(
    tokenizers_by_kind: dict[str, Tokenizer], write_model: Callable[..., Path]
) -> None:
    library = tokenizers.Tokenizer.from_file(str(write_model("sentence-piece") / "tokenizer.json"))
    ours = tokenizers_by_kind["sentence-piece"]

    @given(texts)
    def check(text: str) -> None:
        ids = ours.encode(text)
        assert ids == library.encode(text).ids
        assert ours.decode(ids) == library.decode(ids)

    check()


def test_an_id_without_a_token_is_no_text(tokenizers_by_kind: dict[str, Tokenizer]) -> None:
    for tokenizer in tokenizers_by_kind.values():
        first = tokenizer.encode("a")
        assert tokenizer.decode([*first, 10**6]) == tokenizer.decode(first)
        assert tokenizer.token_bytes(10**6) == b""


def test_special_tokens_are_no_text_but_have_a_name() -> None:
    end = nano.encode("<|end|>")[0]
    assert nano.decode([72, end, 105]) == "Hi"
    assert nano.token_text(end) == "<|end|>"
    assert end in nano.eos_token_ids
    assert end in nano.special_ids


def test_a_part_of_a_character_has_bytes_and_a_placeholder_for_text() -> None:
    first, second = nano.encode("é")
    assert nano.token_bytes(first) + nano.token_bytes(second) == "é".encode()
    assert nano.token_text(first) == "�"


def test_nano_says_what_it_is() -> None:
    assert nano.vocab_size == 262
    assert nano.max_context == 8192
    assert nano.bos_token_id == 256
    assert nano.eos_token_ids == {257}


def test_a_folder_tells_what_ends_an_answer_and_how_long_the_context_is(
    write_model: Callable[..., Path],
) -> None:
    folder = write_model(
        "sentence-piece",
        config={"eos_token_id": 7, "text_config": {"max_position_embeddings": 4096}},
        generation_config={"eos_token_id": [8, 9]},
        tokenizer_config={"eos_token": {"content": "</s>"}, "model_max_length": 1e30},
    )
    tokenizer = Tokenizer.load(str(folder))
    assert tokenizer.eos_token_ids == {2, 8, 9}
    assert tokenizer.max_context == 4096


def test_a_folder_without_a_config_has_no_known_context(
    tokenizers_by_kind: dict[str, Tokenizer],
) -> None:
    assert tokenizers_by_kind["word-piece"].max_context is None
    assert tokenizers_by_kind["word-piece"].eos_token_ids == frozenset()


def test_a_lone_surrogate_is_the_clients_mistake(tokenizers_by_kind: dict[str, Tokenizer]) -> None:
    for tokenizer in tokenizers_by_kind.values():
        with pytest.raises(RequestError, match="not valid Unicode"):
            tokenizer.encode("a\ud800b")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("/nowhere/at/all", "does not exist"),
        ("./nowhere", "does not exist"),
        ("no model at all", "does not exist"),
        (__file__, "is a file"),
        (str(Path(__file__).parent), "no tokenizer.json"),
    ],
)
def test_a_model_that_is_not_there_is_named(model: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Tokenizer.load(model)


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("text", ["{ not json", "[]", '"text"'])
def test_a_broken_file_is_named(write_model: Callable[..., Path], name: str, text: str) -> None:
    folder = write_model("word-piece")
    (folder / name).write_text(text)
    with pytest.raises(ModelError, match=name):
        Tokenizer.load(str(folder))


def test_the_hub_is_asked_last_and_its_answer_is_passed_on(
    monkeypatch: pytest.MonkeyPatch, write_model: Callable[..., Path]
) -> None:
    folder = write_model("word-piece")
    asked: list[bool] = []

    def download(name: str, *, allow_patterns: list[str], local_files_only: bool) -> str:
        asked.append(local_files_only)
        if local_files_only or name != "owner/name":
            raise OSError(f"nothing known of {name}\nand much more")
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert model_folder("owner/name") == folder
    assert asked == [True, False]
    with pytest.raises(ModelError, match="nothing known of owner/other; check"):
        model_folder("owner/other")
