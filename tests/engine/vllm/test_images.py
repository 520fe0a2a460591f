"""KV on its way from one vLLM to another."""

from __future__ import annotations

from collections.abc import Sequence as Seq

import pytest

from fairlead.engine.vllm.images import Images
from fairlead.model import ProtocolError

BLOCK_TOKENS, BLOCK_BYTES = 4, 8


class FakeMemory:
    layout = "float32[2, 4]"
    block_bytes = BLOCK_BYTES

    def __init__(self, n_blocks: int = 10, fill: int = 0) -> None:
        self.blocks = [bytes([fill + i] * BLOCK_BYTES) for i in range(n_blocks)]

    def read(self, blocks: Seq[int], into: memoryview) -> None:
        into[:] = b"".join(self.blocks[block] for block in blocks)

    def write(self, blocks: Seq[int], data: memoryview) -> None:
        for i, block in enumerate(blocks):
            self.blocks[block] = bytes(data[i * BLOCK_BYTES : (i + 1) * BLOCK_BYTES])


def images(memory: FakeMemory, fingerprint: str = "m") -> Images:
    return Images(memory, fingerprint, BLOCK_TOKENS)


def an_image(start: int = 5, end: int = 11) -> bytes:
    source = images(FakeMemory(fill=100))
    return bytes(source.write([7, 3, 5, 1], start, end, lambda n: memoryview(bytearray(n))))


def test_the_blocks_that_hold_the_tokens_come_to_where_the_sequence_lies() -> None:
    memory = FakeMemory()
    images(memory).put(an_image(), [0, 9, 8])
    changed = {i: block[0] for i, block in enumerate(memory.blocks) if block[0] != i}
    assert changed == {9: 103, 8: 105}


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"", "not KV of a vLLM"),
        (b"FLKV" + bytes(100), "not KV of a vLLM"),
        (b"FLVK" + (20).to_bytes(4, "big") + bytes(100), "broken header"),
        (an_image()[:-1], "must be 16 bytes"),
        (an_image(5, 15), "blocks 1 to 4, and 3 are there"),
    ],
)
def test_what_is_no_image_or_does_not_fit_changes_nothing(image: bytes, message: str) -> None:
    memory = FakeMemory()
    with pytest.raises(ProtocolError, match=message):
        images(memory).put(image, [0, 9, 8])
    assert memory.blocks == FakeMemory().blocks


def test_another_model_or_kernel_is_refused() -> None:
    memory = FakeMemory()
    with pytest.raises(ProtocolError, match="of another fingerprint"):
        images(memory, "another").put(an_image(), [0, 9, 8])
    memory.layout = "bfloat16[2, 4]"
    with pytest.raises(ProtocolError, match="of another layout"):
        images(memory).put(an_image(), [0, 9, 8])
