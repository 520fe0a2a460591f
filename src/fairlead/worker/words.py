"""A model's tokenizer as a worker uses it."""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.model import Request
from fairlead.text import NANO, Assembler, Tokenizer, passage_tokens


class Vocabulary:
    """What is said, in tokens and in text. The `Words` of `Streams`, the `Passages` of an emulated
    engine."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.size = tokenizer.vocab_size
        self.eos_token_id = min(tokenizer.eos_token_ids, default=None)

    def assembler(self, request: Request, produced: Sequence[int]) -> Assembler:
        sampling = request.sampling
        return Assembler(self.tokenizer, sampling.stop, produced, min_tokens=sampling.min_tokens)

    @property
    def max_context(self) -> int | None:
        """The model's own limit; None where its folder does not say."""
        return self.tokenizer.max_context

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that end an answer."""
        return self.tokenizer.eos_token_ids

    def token_text(self, token_id: int) -> str:
        return self.tokenizer.token_text(token_id)

    def tokens_of(self, text: str) -> list[int]:
        """The tokens of `text`, with none that a tokenizer puts around a text by itself."""
        return self.tokenizer.encode_bare(text)

    def raw_text(self, token_ids: Sequence[int]) -> str:
        """Their text, special tokens by their names."""
        return self.tokenizer.raw_text(token_ids)

    def plain_text(self, token_ids: Sequence[int]) -> str:
        """Their text without special tokens."""
        return self.tokenizer.decode(token_ids)

    def passage(self, seed: int, start: int, n: int) -> list[int]:
        return passage_tokens(self.tokenizer, seed, start, n)


def tokenizer_for(model: str, engine: str) -> Tokenizer:
    """The tokenizer that gateway and worker use for a pool's model. An emulated model need not
    exist: it speaks with the tokenizer of `fairlead-nano`. Raises `ModelError`."""
    return Tokenizer.load(NANO if engine == "emulated" else model)
