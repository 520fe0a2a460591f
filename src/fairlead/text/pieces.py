"""Tokens as bytes: for the two common kinds of tokenizer, what each token adds to the text.

Where every token stands for fixed bytes, text can be put together piece by piece. That holds for
byte-level tokenizers (GPT-2, Llama 3, Qwen, fairlead-nano) and, but for the space before the
first word, for SentencePiece ones with byte fallback (Llama 2, Mistral, Gemma).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import tokenizers

from fairlead.text.call_format import MARKS

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True, slots=True)
class Pieces:
    """The bytes of every token id."""

    table: list[bytes]
    """Indexed by token id; empty for special tokens and for ids that have no token."""
    strips_space: bool
    """Whether a space at the very beginning of a text is dropped."""


def pieces_of(tokenizer: tokenizers.Tokenizer, made_of: Mapping[str, Any]) -> Pieces | None:
    """The table, or None where the tokens of this tokenizer have no bytes of their own.

    `made_of` is what `tokenizer.json` says; the library's objects do not tell their settings.
    """
    decoder = made_of["decoder"] or {}
    if decoder.get("type") == "ByteLevel":
        return Pieces(_table(tokenizer, _byte_level), strips_space=False)
    steps = decoder.get("decoders", ())
    if [step["type"] for step in steps[:3]] != ["Replace", "ByteFallback", "Fuse"]:
        return None
    if steps[0].get("pattern") != {"String": "▁"} or steps[0].get("content") != " ":
        return None
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    if list(steps[3:]) not in ([], [strip]):
        return None
    return Pieces(_table(tokenizer, _sentence_piece), strips_space=len(steps) == 4)


def bytes_are_ids(made_of: Mapping[str, Any]) -> bool:
    """Whether the ids 0 to 255 are the bytes, nothing merges them, and all else is special."""
    before = made_of["pre_tokenizer"] or {}
    special = {added["id"] for added in made_of["added_tokens"] if added["special"]}
    return (
        made_of["model"].get("merges") == []
        and (before.get("type"), before.get("add_prefix_space")) == ("ByteLevel", False)
        and made_of["normalizer"] is made_of["post_processor"] is None
        and all(made_of["model"]["vocab"].get(k) == byte for k, byte in _LETTERS.items())
        and special == set(range(256, 256 + len(made_of["added_tokens"])))
        and len(made_of["model"]["vocab"]) == 256
    )


def byte_letters() -> dict[str, int]:
    """The letter by which byte-level vocabularies write each byte, as GPT-2 chose them."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + index): byte for index, byte in enumerate(rest)
    }


_LETTERS = byte_letters()


def _table(tokenizer: tokenizers.Tokenizer, bytes_of: Callable[[str], bytes]) -> list[bytes]:
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    table = [b""] * (max(vocabulary.values(), default=-1) + 1)
    for token, token_id in vocabulary.items():
        table[token_id] = bytes_of(token)
    for token_id, added in tokenizer.get_added_tokens_decoder().items():
        if added.special and added.content not in MARKS:
            table[token_id] = b""
    return table


def _byte_level(token: str) -> bytes:
    try:
        return bytes([_LETTERS[letter] for letter in token])
    except KeyError:  # an added token, written as itself
        return token.encode()


def _sentence_piece(token: str) -> bytes:
    found = _BYTE_TOKEN.fullmatch(token)
    return bytes([int(found[1], 16)]) if found else token.replace("▁", " ").encode()
