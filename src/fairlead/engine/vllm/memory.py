"""vLLM's KV memory as blocks of bytes."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Seq

import torch
from torch import Tensor

FIRST_BLOCK = 1
"""vLLM's block 0 belongs to nobody; our block 0 is its block 1."""


class BlockMemory:
    """See the module. To be used between steps."""

    def __init__(self, caches: Iterable[Tensor], n_blocks: int) -> None:
        """`caches` are a runner's, one for each layer, of which blocks are the first dimension: as
        many as `n_blocks`, or a multiple where a kernel cuts them smaller."""
        layers = {cache.data_ptr(): cache for cache in caches}  # Layers may share theirs.
        self._layers = [torch.unflatten(cache, 0, (n_blocks, -1)) for cache in layers.values()]
        self._layer_bytes = [_block_bytes(layer) for layer in self._layers]
        self.block_bytes = sum(self._layer_bytes)
        self.layout = " ".join(f"{layer.dtype}{list(layer.shape[1:])}" for layer in self._layers)

    def read(self, blocks: Seq[int], into: memoryview) -> None:
        """Layer by layer, the blocks of each."""
        at = 0
        for layer, index, n_bytes in self._each(blocks):
            data = layer.index_select(0, index).contiguous().cpu()
            into[at : at + n_bytes] = data.view(torch.uint8).flatten().numpy().data
            at += n_bytes

    def write(self, blocks: Seq[int], data: memoryview) -> None:
        at = 0
        for layer, index, n_bytes in self._each(blocks):
            piece = torch.frombuffer(bytearray(data[at : at + n_bytes]), dtype=layer.dtype)
            layer.index_copy_(0, index, piece.view(-1, *layer.shape[1:]).to(layer.device))
            at += n_bytes

    def _each(self, blocks: Seq[int]) -> Iterable[tuple[Tensor, Tensor, int]]:
        for layer, block_bytes in zip(self._layers, self._layer_bytes, strict=True):
            index = torch.tensor([block + FIRST_BLOCK for block in blocks], device=layer.device)
            yield layer, index, len(blocks) * block_bytes


def _block_bytes(layer: Tensor) -> int:
    return layer[0].numel() * layer.element_size()
