"""Tokenizers of each kind, small enough to be made on the spot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from fairlead.text import NANO, PASSAGE, Tokenizer

FOREIGN = "Grüße aus Zürich – 日本語のテキスト, ¿qué tal? 🚢⚓ naïve café"


def byte_level() -> tokenizers.Tokenizer:
    """As GPT-2, Llama 3 and Qwen have it, with merges that cut characters in two."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|end|>"],
        show_progress=False,
    )
    made.train_from_iterator([PASSAGE, FOREIGN], trainer)
    made.add_tokens(["<tool call>"])
    return made


def sentence_piece() -> tokenizers.Tokenizer:
    """As Llama 2 has it: words begin with a mark for the space, unknown characters are bytes."""
    words = ["▁", "▁the", "▁ship", "▁a", "s", "é", "日", "<|x", "▁▁"]
    tokens = ["<unk>", "<s>", "</s>", *[f"<0x{byte:02X}>" for byte in range(256)], *words]
    letters = [chr(code) for code in range(33, 127) if chr(code) not in tokens]
    vocabulary = {token: index for index, token in enumerate([*tokens, *letters])}
    made = tokenizers.Tokenizer(
        models.BPE(vocab=vocabulary, merges=[], byte_fallback=True, unk_token="<unk>")
    )
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1, right=0),
        ]
    )
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    return made


def word_piece() -> tokenizers.Tokenizer:
    """One whose tokens have no bytes of their own: a space depends on the token before."""
    words = ["[UNK]", "the", "ship", "sail", "##s", "##ing", "harbour", "and", "##or", "a", "b"]
    made = tokenizers.Tokenizer(
        models.WordPiece({word: index for index, word in enumerate(words)}, unk_token="[UNK]")
    )
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.decoder = decoders.WordPiece(cleanup=False)
    return made


MADE: dict[str, Callable[[], tokenizers.Tokenizer]] = {
    "byte-level": byte_level,
    "sentence-piece": sentence_piece,
    "word-piece": word_piece,
}


@pytest.fixture(scope="session")
def write_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a model folder: a tokenizer of one kind, and what its JSON files say."""

    def write(kind: str, **files: dict[str, Any]) -> Path:
        folder: Path = tmp_path_factory.mktemp(kind)
        MADE[kind]().save(str(folder / "tokenizer.json"))
        for name, value in files.items():
            (folder / f"{name}.json").write_text(json.dumps(value))
        return folder

    return write


@pytest.fixture(scope="session")
def tokenizers_by_kind(write_model: Callable[..., Path]) -> dict[str, Tokenizer]:
    made = {kind: Tokenizer.load(str(write_model(kind))) for kind in MADE}
    return made | {"nano": Tokenizer.load(NANO)}
