"""Random draws that depend only on a seed, a name and a position.

A counter-based generator (the finaliser of SplitMix64): draw `i` of a stream never depends on how
many draws came before it, so a window or a limit on a trace leaves the other rows as they were.

Paper: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


def stream_key(seed: int, name: str) -> int:
    """The 64-bit key of a named stream of draws."""
    return int.from_bytes(blake2b(f"{seed}:{name}".encode(), digest_size=8).digest(), "little")


def draw(key: int, index: int) -> int:
    """Draw number `index` of a stream: 64 uniform bits."""
    x = (key + (index + 1) * _GOLDEN) & _MASK
    x = ((x ^ (x >> 30)) * _MIX_1) & _MASK
    x = ((x ^ (x >> 27)) * _MIX_2) & _MASK
    return x ^ (x >> 31)


def draws(keys: NDArray[np.uint64], indices: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """`draw` for arrays that broadcast against each other."""
    one = np.uint64(1)
    with np.errstate(over="ignore"):
        x = keys + (indices + one) * np.uint64(_GOLDEN)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(_MIX_1)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(_MIX_2)
    result: NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return result


def uniform(key: int, index: int) -> float:
    """Draw number `index` of a stream as a float in [0, 1)."""
    return (draw(key, index) >> 11) / (1 << 53)
