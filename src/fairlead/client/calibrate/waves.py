"""The made-up traffic of a calibration: waves that spread evenly over what an engine can be asked.

A wave is one shape of load: so many sequences that decode at about one context, and beside them
newcomers with prompts of one length, part of which the engine may have cached. Sizes are spread
evenly over their logarithms by a sequence of low discrepancy, so that wherever one stops, small and
large, thin and thick have all been seen, in mixed order: a machine that slows down in the meantime
bends nothing but the noise.

Paper: Halton, "On the efficiency of certain quasi-random sequences of points", 1960.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

DECODE_TOKENS = 32
"""What each decoding sequence produces."""
NEWCOMERS = 2
"""Each meets the same load: what one of them tells can be held against the other."""
NOBODY_DECODES = 6
"""Every so many waves, newcomers are alone."""
_BASES = (2, 3, 5, 7)
_ALIGNED = 16
"""Prefixes end where blocks do; nothing between two ends is ever found again."""


@dataclass(frozen=True, slots=True)
class Room:
    """What the engine can hold."""

    max_sequences: int
    max_context: int
    """Tokens of one sequence, output included."""
    tokens: int
    """Tokens of all sequences together."""


@dataclass(frozen=True, slots=True)
class Wave:
    """One shape of load."""

    decodes: int
    """Sequences that decode together; 0 where there are newcomers only."""
    context: int
    """Their prompts, on average."""
    chunk: int
    """What is new in the prompt of each newcomer."""
    cached: int = 0
    """What comes before it, and has been computed already."""

    @property
    def prompts(self) -> list[int]:
        """Lengths of the decoding sequences' prompts: from half to one and a half of the context,
        for no real batch is all alike."""
        n = self.decodes
        return [max(round(self.context * (0.5 + (i + 0.5) / n)), 1) for i in range(n)]

    @property
    def tokens(self) -> int:
        """Everything that is computed in the course of it."""
        return self.decodes * (self.context + DECODE_TOKENS) + self.cached + NEWCOMERS * self.chunk

    def within(self, tokens: int) -> Wave:
        """The same, thinner where it is too much: those that decode and the newcomers get half of
        the tokens each, and what the other leaves. What is left is one token of each at least."""
        new = self.cached + NEWCOMERS * self.chunk
        decoding = self.tokens - new
        return self._with_newcomers(max(tokens - decoding, tokens // 2))._with_decodes(
            max(tokens - new, tokens // 2)
        )

    def _with_newcomers(self, tokens: int) -> Wave:
        """Chunk and prefix shrink alike."""
        excess = (self.cached + NEWCOMERS * self.chunk) / max(tokens, 1)
        if excess <= 1.0:
            return self
        chunk = max(int(self.chunk / excess), 1)
        return replace(self, chunk=chunk, cached=int(self.cached / excess) // _ALIGNED * _ALIGNED)

    def _with_decodes(self, tokens: int) -> Wave:
        """Batch and context shrink alike, the batch further where outputs alone are too much."""
        wave = self
        while (excess := wave.decodes * (wave.context + DECODE_TOKENS) / max(tokens, 1)) > 1.0:
            shrink = math.sqrt(max(excess, 1.1))
            decodes = max(int(wave.decodes / shrink), 1)
            context = max(int(wave.context / shrink), 1)
            if (decodes, context) == (wave.decodes, wave.context):
                break
            wave = replace(wave, decodes=decodes, context=context)
        return wave


FIRST = Wave(2, 16, 32)
"""Small, so that whatever an engine does only once it does here, at little cost."""


def waves(room: Room, seed: int, *, cached: bool = True) -> Iterator[Wave]:
    """Endless; those of another seed lie between. `cached` has newcomers with cached prefixes."""
    rng = Random(f"{seed} waves")
    shifts = [rng.random() for _ in _BASES]
    n = 0
    while True:
        n += 1
        places = (
            (_radical_inverse(n, base) + shift) % 1.0
            for base, shift in zip(_BASES, shifts, strict=True)
        )
        yield _wave(room, n, *places, cached=cached)


def _wave(
    room: Room, n: int, width: float, depth: float, chunk: float, prefix: float, *, cached: bool
) -> Wave:
    longest = max(room.max_context - DECODE_TOKENS, 2)
    new = _between(4, longest, chunk)
    before = _between(1, max(longest - new, 1), 2 * prefix - 1) if prefix > 0.5 and cached else 0
    decodes = 0 if n % NOBODY_DECODES == 0 else _between(1, max(room.max_sequences - 1, 1), width)
    # The longest of the prompts is half as long again as their mean.
    context = _between(8, 2 * longest // 3, depth)
    return Wave(decodes, context, new, before // _ALIGNED * _ALIGNED).within(room.tokens)


def _between(low: int, high: int, place: float) -> int:
    """A whole number from `low` to `high`, evenly by its logarithm."""
    low = min(low, high)
    return min(max(round(low * math.pow(high / low, place)), low), high)


def _radical_inverse(n: int, base: int) -> float:
    """The digits of `n`, mirrored at the point."""
    result, share = 0.0, 1.0
    while n:
        n, digit = divmod(n, base)
        share /= base
        result += digit * share
    return result
