"""The generator of all sampling: a pure function of (seed, position), so that a sequence goes on
identically on any instance that knows its seed and its tokens."""

from __future__ import annotations

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) for the output token at `position`; any integers are good.

    The finalizer of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
    generators", 2014) scrambles the seed first, so that the streams of neighbouring seeds do not
    overlap, then the state that splitmix64 has after `position + 1` steps from there.
    """
    return (scrambled(seed, position) >> 11) * 2.0**-53


def scrambled(seed: int, position: int) -> int:
    """64 bits, for whoever needs more than one number: the seed of a generator."""
    state = _scramble((seed + _GOLDEN) & _MASK)
    return _scramble((state + (position + 1) * _GOLDEN) & _MASK)


def _scramble(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)
