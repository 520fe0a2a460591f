"""vLLM's KV memory as blocks of bytes."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs fairlead[engine]")
import torch

from fairlead.engine.vllm.memory import BlockMemory

N_BLOCKS = 5


def caches(seed: int) -> list[torch.Tensor]:
    """Two layers, the second with blocks cut in two by its kernel."""
    rng = torch.Generator().manual_seed(seed)
    return [
        torch.randn(N_BLOCKS, 2, 4, 3, generator=rng).bfloat16(),
        torch.randn(2 * N_BLOCKS, 2, 2, 3, generator=rng),
    ]


def test_blocks_read_are_blocks_written() -> None:
    ours, theirs = caches(1), caches(2)
    source, target = BlockMemory(ours, N_BLOCKS), BlockMemory(theirs, N_BLOCKS)
    assert source.layout == target.layout
    assert source.block_bytes == 2 * 4 * 3 * (2 + 4)
    data = memoryview(bytearray(2 * source.block_bytes))
    source.read([3, 0], data)
    untouched = [layer.clone() for layer in theirs]
    target.write([1, 2], data)
    # Our block 0 is vLLM's block 1.
    assert torch.equal(theirs[0][[2, 3]], ours[0][[4, 1]])
    assert torch.equal(theirs[1][[4, 5, 6, 7]], ours[1][[8, 9, 2, 3]])
    assert torch.equal(theirs[0][[0, 1, 4]], untouched[0][[0, 1, 4]])


def test_layers_that_share_their_memory_are_copied_once() -> None:
    (one, _) = caches(1)
    shared = BlockMemory([one, one], N_BLOCKS)
    assert shared.block_bytes == BlockMemory([one], N_BLOCKS).block_bytes
