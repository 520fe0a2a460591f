"""Prompts made to measure: exact token ids, with the prefix sharing of the trace.

Each prefix block's content depends on the seed and its id alone, so rows that share ids share
tokens. What the ids do not cover belongs to its row alone. The opening of a prompt spells the
number of what it opens with, so that unrelated prompts part at once and nothing is shared by
accident.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairlead.model import ConfigError
from fairlead.workload.draws import draws, stream_key
from fairlead.workload.trace import TraceRow

OPENING_TOKENS = 5
"""Tokens that spell the number of the first block; 95 printable bytes tell 7.7e9 numbers apart."""
_LAP = 1_000_003
"""Moves the numbers of a later lap away from those of the first, so that openings differ too."""
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Token ids that prompts are made of, both ends included."""

    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low < 0 or self.high <= self.low:
            raise ConfigError(
                f"vocabulary {self.low}:{self.high} is impossible; expected two token ids, "
                "the smaller first. Example: --vocab 1000:9000"
            )

    @property
    def size(self) -> int:
        return self.high - self.low + 1


PRINTABLE_BYTES = Vocabulary(32, 126)
"""For byte-level models: ids are bytes, and the prompt is readable."""
ANY_MODEL = Vocabulary(1000, 9000)
"""Ordinary tokens of every common tokenizer: above the special ones, below the smallest size."""


class PromptMaker:
    """Makes the prompt of any row of a trace; equal seeds make equal prompts."""

    def __init__(self, seed: int, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._shared_key = stream_key(seed, "shared-blocks")
        self._own_key = stream_key(seed, "own-tokens")

    def token_ids(self, row: TraceRow, lap: int = 0) -> list[int]:
        """Exactly `row.prompt_tokens` ids. A lap is one pass over the trace: nothing is shared
        between laps, so that playing a trace again is not all cache hits."""
        tokens = self._content(row, lap)
        self._write_opening(tokens, row, lap)
        ids: list[int] = (tokens + np.uint64(self._vocabulary.low)).tolist()
        return ids

    def _content(self, row: TraceRow, lap: int) -> NDArray[np.uint64]:
        size = row.hash_block_tokens
        n_blocks = min(len(row.hash_ids), -(-row.prompt_tokens // size)) if size else 0
        numbers = [_number(i, lap) for i in row.hash_ids[:n_blocks]]
        shared = self._drawn(self._shared_key, numbers, size)[: row.prompt_tokens]
        own = self._drawn(self._own_key, [_number(row.index, lap)], row.prompt_tokens - len(shared))
        return np.concatenate([shared, own])  # [prompt_tokens]

    def _drawn(self, key: int, numbers: list[int], n_each: int) -> NDArray[np.uint64]:
        names = np.array(numbers, dtype=np.uint64)
        keys = draws(np.array([key], dtype=np.uint64), names)[:, None]  # [numbers, 1]
        words = draws(keys, np.arange(n_each, dtype=np.uint64)[None, :])  # [numbers, n_each]
        result: NDArray[np.uint64] = (words % np.uint64(self._vocabulary.size)).reshape(-1)
        return result

    def _write_opening(self, tokens: NDArray[np.uint64], row: TraceRow, lap: int) -> None:
        """Spells the number in base `size`, lowest digit first: neighbours differ in token 0."""
        shared = bool(row.hash_ids) and row.hash_block_tokens > 0
        number = 2 * _number(row.hash_ids[0] if shared else row.index, lap) + (not shared)
        for place in range(min(OPENING_TOKENS, len(tokens))):
            number, digit = divmod(number, self._vocabulary.size)
            tokens[place] = digit


def _number(index: int, lap: int) -> int:
    return (index + lap * _LAP) & _MASK


def as_text(token_ids: list[int], vocabulary: Vocabulary) -> str:
    """Text for servers that take no token ids: one character a token where ids are printable
    bytes, else one common word a token, which most tokenizers read as one token each."""
    if vocabulary.low >= PRINTABLE_BYTES.low and vocabulary.high <= PRINTABLE_BYTES.high:
        return bytes(token_ids).decode("ascii")
    return " ".join(WORDS[token % len(WORDS)] for token in token_ids)


_WORDS = (
    "the of and to in is that it was for on are as with his they be at one have this from or had "
    "by hot but some what there we can out other were all your when up use word how said an each "
    "she which do their time if will way about many then them would write like so these her long "
    "make thing see him two has look more day could go come did my sound no most number who over "
    "know water than call first people may down side been now find any new work part take get "
    "place made live where after back little only round man year came show every good me give our "
    "under name very through just form much great think say help low line before turn cause same "
    "mean differ move right boy old too does tell sentence set three want air well also play "
    "small end put home read hand port large spell add even land here must big high such follow "
    "act why ask men change went light kind off need house picture try us again animal point "
    "mother world near build self earth father"
)
WORDS = tuple(_WORDS.split())
