"""JSON Schemas and grammars as constraints: which tokens may come next, given those so far.

What may come next follows from the output tokens alone, so a sequence that begins in the middle
goes on exactly where it stopped elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairlead.instance.sequence import Sequence as Seq
from fairlead.model import RequestId, Sampling

WHITESPACE = r"(\x20|\x0A[\x20\x09]{0,32})"
"""Between two tokens of JSON: a blank, or a new line with its indentation. Small models that may
write more of it do nothing else."""


class _Followed:
    """The state of one sequence's grammar, kept up from call to call."""

    __slots__ = ("matcher", "n_taken", "sequence")

    def __init__(self, sequence: Seq, matcher: Any) -> None:
        self.sequence = sequence
        self.matcher = matcher
        self.n_taken = 0

    def update(self) -> None:
        new = self.sequence.token_ids[self.sequence.prompt_tokens + self.n_taken :]
        self.n_taken += len(new)
        if new:
            self.matcher.consume_tokens(list(new))


class Grammars:
    """The constraints of a model's sequences. What it keeps, it could make anew."""

    def __init__(self, folder: Path, vocab_size: int, eos_token_ids: Iterable[int]) -> None:
        """`folder` holds the model's tokenizer; it is read when a schema first needs it."""
        self._folder = folder
        self._vocab_size = vocab_size
        self._eos = [token for token in sorted(eos_token_ids) if 0 <= token < vocab_size]
        self._followed: dict[RequestId, _Followed] = {}

    def objection(self, sampling: Sampling) -> str:
        """Why outputs cannot be held to what is asked for; empty where they can."""
        try:
            import llguidance
        except ModuleNotFoundError:
            return "this worker lacks llguidance, part of fairlead[engine]; install it there"
        what = "a schema of the tools" if sampling.grammar else "the JSON schema"
        try:
            grammar = _grammar(sampling)
            wrong: str = llguidance.LLMatcher.validate_grammar(grammar, self._tokenizer)
            if wrong:
                # What follows names a setting of the library.
                return f"{what} cannot be followed: {wrong.partition(' Enable ')[0]}"
            matcher = self._matcher(sampling)
            matcher.compute_bitmask()
        except Exception as error:  # the library raises what its parsers do
            return f"{what} cannot be followed: {error}"
        return f"{what} cannot be followed: it has no end" if matcher.is_error() else ""

    def mask(self, row: Tensor, sequence: Seq) -> None:
        """Leaves of a row of logits what the sequence's constraint allows."""
        row.masked_fill_(torch.from_numpy(~self._allowed(sequence)).to(row.device), float("-inf"))

    def bits(self, sequence: Seq) -> NDArray[np.int32]:
        """What the sequence's constraint allows, a bit for each token, the first in the lowest."""
        packed = np.packbits(self._allowed(sequence), bitorder="little")
        return np.pad(packed, (0, -len(packed) % 4)).view(np.int32)

    def _allowed(self, sequence: Seq) -> NDArray[np.bool_]:
        matcher = self._follow(sequence).matcher
        packed = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.unpackbits(packed, count=self._vocab_size, bitorder="little").astype(bool)
        allowed[self._eos] = matcher.is_accepting() or not allowed.any() or matcher.is_error()
        return allowed

    def failed(self, sequence: Seq) -> bool:
        """The library gave up on it, so that its output ends before it is whole."""
        followed = self._followed.get(sequence.id)
        return followed is not None and bool(followed.matcher.is_error())

    def forget(self, request_id: RequestId) -> None:
        self._followed.pop(request_id, None)

    def _follow(self, sequence: Seq) -> _Followed:
        followed = self._followed.get(sequence.id)
        if followed is None or followed.sequence is not sequence:
            matcher = self._matcher(sequence.request.sampling)
            followed = self._followed[sequence.id] = _Followed(sequence, matcher)
        followed.update()
        return followed

    def _matcher(self, sampling: Sampling) -> Any:
        import llguidance

        return llguidance.LLMatcher(self._tokenizer, _grammar(sampling), log_level=0)

    @cached_property
    def _tokenizer(self) -> Any:
        import llguidance

        text = (self._folder / "tokenizer.json").read_text(encoding="utf-8")
        return llguidance.LLTokenizer(text, n_vocab=self._vocab_size, eos_token=self._eos)


def _grammar(sampling: Sampling) -> str:
    import llguidance

    grammar: str = (
        llguidance.LLMatcher.grammar_from_lark(sampling.grammar)
        if sampling.grammar
        else llguidance.LLMatcher.grammar_from_json_schema(
            sampling.json_schema, defaults={"whitespace_pattern": WHITESPACE}
        )
    )
    return grammar
