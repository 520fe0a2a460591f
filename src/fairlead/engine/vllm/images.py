"""KV that leaves one vLLM and enters another: whole blocks, as they lie in its memory.

vLLM lays blocks out as its attention kernels like them, so that a token's KV cannot be told from
its neighbours' without knowing the kernel. Two instances of the same model with the same kernels
need not know: they copy blocks. So the first and the last of them bring along more than was asked
for: earlier tokens of the same sequence, and behind the last token whatever lay there before,
which nobody reads.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence as Seq
from typing import TYPE_CHECKING, Protocol

import msgspec

from fairlead.model import ProtocolError

if TYPE_CHECKING:
    from fairlead.engine.transfer import Place

FORMAT_VERSION = 1
_MAGIC = b"FLVK"
_PREFIX = struct.Struct(">4sI")
"""Magic, and the length of the header that follows as JSON; then the blocks."""


class BlocksHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What both ends must agree on, and which blocks of the sequence follow."""

    version: int
    fingerprint: str
    """Of the model's configuration and weights."""
    layout: str
    """What the memory of a block looks like."""
    block_bytes: int
    first: int
    """The first block's index in its sequence."""
    n_blocks: int


class Memory(Protocol):
    """Blocks of KV, by their numbers."""

    layout: str
    block_bytes: int

    def read(self, blocks: Seq[int], into: memoryview) -> None: ...
    def write(self, blocks: Seq[int], data: memoryview) -> None: ...


class Images:
    """Both ends of a copy."""

    def __init__(self, memory: Memory, fingerprint: str, block_tokens: int) -> None:
        self._memory = memory
        self._fingerprint = fingerprint
        self._block_tokens = block_tokens

    def write(self, blocks: Seq[int], start: int, end: int, place: Place) -> memoryview:
        """The blocks with the tokens `start` to `end` of a sequence that lies in `blocks`, in the
        memory that `place` gives."""
        first, last = start // self._block_tokens, -(-end // self._block_tokens)
        assert 0 <= first < last <= len(blocks), f"blocks {first} to {last} of {len(blocks)}"
        head = _head(self._header(first, last - first))
        image = place(len(head) + (last - first) * self._memory.block_bytes)
        image[: len(head)] = head
        self._memory.read(blocks[first:last], image[len(head) :])
        return image

    def put(self, image: bytes | memoryview, blocks: Seq[int]) -> None:
        """Into a sequence's blocks. Raises `ProtocolError`, and changes nothing, on what is not an
        image or does not fit."""
        header, data = _split(memoryview(image))
        expected = self._header(header.first, header.n_blocks)
        for name in BlocksHeader.__struct_fields__:
            theirs, ours = getattr(header, name), getattr(expected, name)
            if theirs != ours:
                raise ProtocolError(f"KV blocks of another {name}: {theirs!r}, expected {ours!r}")
        end = header.first + header.n_blocks
        if header.first < 0 or header.n_blocks < 1 or end > len(blocks):
            raise ProtocolError(f"KV blocks {header.first} to {end}, and {len(blocks)} are there")
        n_bytes = header.n_blocks * self._memory.block_bytes
        if len(data) != n_bytes:
            raise ProtocolError(
                f"{header.n_blocks} KV blocks must be {n_bytes} bytes, these are {len(data)}"
            )
        self._memory.write(blocks[header.first : end], data)

    def _header(self, first: int, n_blocks: int) -> BlocksHeader:
        memory = self._memory
        return BlocksHeader(
            FORMAT_VERSION, self._fingerprint, memory.layout, memory.block_bytes, first, n_blocks
        )


def _head(header: BlocksHeader) -> bytes:
    text = msgspec.json.encode(header)
    return _PREFIX.pack(_MAGIC, len(text)) + text


def _split(image: memoryview) -> tuple[BlocksHeader, memoryview]:
    if len(image) < _PREFIX.size or image[:4] != _MAGIC:
        raise ProtocolError("not KV of a vLLM: it must begin with FLVK")
    end = _PREFIX.size + _PREFIX.unpack_from(image)[1]
    try:
        header = msgspec.json.decode(image[_PREFIX.size : end], type=BlocksHeader)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"KV of a vLLM with a broken header: {error}") from error
    return header, image[end:]
