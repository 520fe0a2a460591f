"""KV memory: one tensor a layer, cut into blocks, and a buffer to gather them into."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class KvShape:
    """What one token's KV looks like."""

    layers: int
    heads: int
    """Key-value heads, fewer than query heads under grouped-query attention."""
    head_dim: int
    dtype: torch.dtype

    @property
    def row_bytes(self) -> int:
        """K, or V, of one token in one layer."""
        return self.heads * self.head_dim * self.dtype.itemsize

    @property
    def token_bytes(self) -> int:
        return 2 * self.layers * self.row_bytes


class KvPool:
    """The KV of every block in every layer. Who owns a block is known elsewhere."""

    def __init__(
        self, shape: KvShape, n_blocks: int, block_tokens: int, device: torch.device
    ) -> None:
        self.shape = shape
        self.n_blocks = n_blocks
        self.block_tokens = block_tokens
        self.device = device
        size = (2, n_blocks, block_tokens, shape.heads, shape.head_dim)
        self.layers = [_zeros(size, shape.dtype, device) for _ in range(shape.layers)]
        """[2, blocks, block_tokens, kv_heads, head_dim] of each layer; K, then V."""
        self.block_rows = [layer.view(2 * n_blocks, -1) for layer in self.layers]
        """The same memory as [2 * blocks, elements of a block]; V comes `n_blocks` rows after K."""
        self.token_rows = [layer.flatten(0, 2) for layer in self.layers]
        """The same memory as [2 * slots, kv_heads, head_dim]."""
        self._scratch = torch.empty(0, dtype=shape.dtype, device=device)

    @property
    def n_slots(self) -> int:
        return self.n_blocks * self.block_tokens

    def slots(self, blocks: Sequence[int], start: int, end: int) -> list[int]:
        """Where the tokens `start` to `end` of a sequence lie, which owns `blocks` in order."""
        size = self.block_tokens
        found: list[int] = []
        for index in range(start // size, -(-end // size)):
            first = blocks[index] * size - index * size
            found.extend(
                range(first + max(start, index * size), first + min(end, (index + 1) * size))
            )
        return found

    def scratch(self, n_sequences: int, n_blocks: int) -> Tensor:
        """[2 * sequences * blocks, elements of a block] of a buffer that everyone shares.

        It is kept and only ever grows: fresh memory pays a page fault every 4 KiB.
        """
        rows = 2 * n_sequences * n_blocks
        elements = self.block_tokens * self.shape.heads * self.shape.head_dim
        if self._scratch.numel() < rows * elements:
            self._scratch = self.layers[0].new_empty(rows * elements)
        return self._scratch[: rows * elements].view(rows, elements)

    def gather_rows(self, blocks: Sequence[int]) -> list[int]:
        """Rows of `block_rows` that hold K, then V, of these blocks."""
        return [*blocks, *(self.n_blocks + block for block in blocks)]


def _zeros(size: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """On the CPU numpy's zeros: they take no memory until a block is first written."""
    if device.type != "cpu":
        return torch.zeros(size, dtype=dtype, device=device)
    n_bytes = math.prod(size) * dtype.itemsize
    return torch.from_numpy(numpy.zeros(n_bytes, numpy.uint8)).view(dtype).view(*size)
