"""Prompts that begin alike: system prompts of unequal popularity, and trees of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from fairlead.workload.columns import Floats, Ints
from fairlead.workload.generate import spec

Ids = tuple[int, ...]


class Sharing(Protocol):
    """A way to share prefixes. Ids count from 1; equal ids mean equal content up to there."""

    def prefix_tokens(self) -> int:
        """Tokens that every prompt begins with before its own."""
        ...

    def n_ids(self, block_tokens: int) -> int:
        """How many ids there are; a generator's own ids begin after them."""
        ...

    def draw(self, rng: np.random.Generator, n: int, block_tokens: int) -> Sequence[Ids]:
        """The shared full blocks of `n` prompts."""
        ...


@dataclass(frozen=True, slots=True)
class SystemPrompts:
    """Each prompt begins with one of `n` system prompts; their popularity follows Zipf's law."""

    EXAMPLE: ClassVar[str] = "system:n=20,tokens=1000,alpha=1"
    n: float
    tokens: float
    alpha: float = 1.0
    """The prompt of rank k is used as 1 / k to this power; at 0 all are used alike."""

    def __post_init__(self) -> None:
        spec.above_0(n=self.n, tokens=self.tokens)
        _check(self.n, self.alpha)

    def prefix_tokens(self) -> int:
        return int(self.tokens)

    def n_ids(self, block_tokens: int) -> int:
        return int(self.n) * (int(self.tokens) // block_tokens)

    def draw(self, rng: np.random.Generator, n: int, block_tokens: int) -> Sequence[Ids]:
        size = int(self.tokens) // block_tokens
        made: dict[int, Ids] = {}
        ranks = zipf(rng, int(self.n), self.alpha, n).tolist()
        for rank in ranks:
            if rank not in made:
                made[rank] = tuple(range(1 + rank * size, 1 + (rank + 1) * size))
        return [made[rank] for rank in ranks]


@dataclass(frozen=True, slots=True)
class Tree:
    """Prompts begin with a path through a tree: a system prompt, a document of it, a part of that
    and so on; at each level the branches' popularity follows Zipf's law."""

    EXAMPLE: ClassVar[str] = "tree:depth=3,branch=8,tokens=500,alpha=1"
    depth: float
    branch: float
    tokens: float
    """Tokens of one level."""
    alpha: float = 1.0

    def __post_init__(self) -> None:
        spec.above_0(depth=self.depth, branch=self.branch, tokens=self.tokens)
        _check(self.branch**self.depth, self.alpha)

    def prefix_tokens(self) -> int:
        return int(self.depth) * int(self.tokens)

    def n_ids(self, block_tokens: int) -> int:
        size = -(-int(self.tokens) // block_tokens)
        n_nodes: int = sum(int(self.branch) ** level for level in range(1, int(self.depth) + 1))
        return size * n_nodes

    def draw(self, rng: np.random.Generator, n: int, block_tokens: int) -> Sequence[Ids]:
        branch, depth = int(self.branch), int(self.depth)
        turns = [zipf(rng, branch, self.alpha, n).tolist() for _ in range(depth)]
        made: dict[tuple[int, ...], Ids] = {}
        paths = list(zip(*turns, strict=True))
        for path in paths:
            if path not in made:
                made[path] = self._ids(path, block_tokens)
        return [made[path] for path in paths]

    def _ids(self, path: Sequence[int], block_tokens: int) -> Ids:
        """Block after block; each belongs to the deepest level that reaches into it, as its
        content depends on all of the path down to there."""
        branch, tokens = int(self.branch), int(self.tokens)
        size = -(-tokens // block_tokens)
        firsts, node, before = [], 0, 1
        for level, turn in enumerate(path):
            node = node * branch + turn
            firsts.append(before + node * size)
            before += size * branch ** (level + 1)
        ids = []
        for block in range(len(path) * tokens // block_tokens):
            level = ((block + 1) * block_tokens - 1) // tokens
            ids.append(firsts[level] + block - level * tokens // block_tokens)
        return tuple(ids)


SHARINGS: Mapping[str, type[Sharing]] = {"system": SystemPrompts, "tree": Tree}


def parse_sharing(text: str) -> Sharing:
    """`system:n=20,tokens=1000` or `tree:depth=3,branch=8,tokens=500`."""
    return spec.parse("--prefixes", text, SHARINGS)


def zipf(rng: np.random.Generator, n: int, alpha: float, size: int) -> Ints:
    """Ranks from 0; rank k is drawn as often as 1 / (k + 1) to the power of `alpha`."""
    weights: Floats = 1 / np.arange(1, n + 1) ** alpha
    cumulative = np.cumsum(weights)
    ranks: Ints = np.searchsorted(cumulative, rng.random(size) * cumulative[-1], side="right")
    return np.minimum(ranks, n - 1)


MOST_PREFIXES = 10_000_000


def _check(n: float, alpha: float) -> None:
    if not alpha >= 0:
        raise ValueError(f"alpha must be at least 0, got {alpha:g}")
    if not 1 <= n <= MOST_PREFIXES:
        raise ValueError(f"expected 1 to {MOST_PREFIXES:,} different prefixes, got {n:g}")
