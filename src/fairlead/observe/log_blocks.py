"""Prompts' prefixes as an event log names them: numbers that say which prompts begin alike.

A number is given to each piece of some `PIECE_TOKENS` tokens when it is first seen. Pieces are told
apart by the fleet's own chain hashes, so an equal number means an equal prompt up to the end of the
piece; neither text nor hash can be had back from it. A prompt that nobody had before is one run of
fresh numbers, which keeps lines short.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from fairlead.model import BlockHash

PIECE_TOKENS = 64
"""At least so many: with blocks of 16 tokens a quarter of the names, and what is shared is known to
within as many tokens."""
MOST_KEPT = 1 << 18
"""Pieces that are remembered: some 17 million tokens, and 40 MB."""


class PrefixNumbers:
    """Gives numbers to prefixes; forgets those that were not seen for longest."""

    def __init__(self, most_kept: int = MOST_KEPT) -> None:
        self._most_kept = most_kept
        self._numbers: dict[BlockHash, int] = {}
        self._next = 0

    def runs(self, names: Sequence[BlockHash], block_tokens: int) -> list[int]:
        """First number and how many that follow on it, first number and how many …, of the whole
        pieces of a prompt whose full blocks have these names."""
        numbers = self._numbers
        each = blocks_per_piece(block_tokens)
        found: list[int] = []
        for name in names[each - 1 :: each]:
            number = numbers.pop(name, None)
            if number is None:
                number, self._next = self._next, self._next + 1
            numbers[name] = number  # now the one seen last
            if found and found[-2] + found[-1] == number:
                found[-1] += 1
            else:
                found += (number, 1)
        if len(numbers) > self._most_kept:
            for name in list(islice(numbers, len(numbers) - self._most_kept * 7 // 8)):
                del numbers[name]
        return found


def blocks_per_piece(block_tokens: int) -> int:
    return max(-(-PIECE_TOKENS // block_tokens), 1)
