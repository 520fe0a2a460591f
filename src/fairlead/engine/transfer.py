"""KV that leaves one engine and enters another: the payload of a hand-off."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import msgspec
import torch
from torch import Tensor

from fairlead.engine.pool import KvPool
from fairlead.model import ProtocolError

FORMAT_VERSION = 2
_MAGIC = b"FLKV"
_PREFIX = struct.Struct(">4sI")
"""Magic, and the length of the header that follows as JSON; then the KV."""
_ALIGNMENT = 64
"""The KV begins at a multiple of so many bytes: spaces end the header."""
Place = Callable[[int], memoryview]
"""Gives memory for so many bytes, to write to."""


class KvHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What both ends must agree on, and how much there is."""

    version: int
    fingerprint: str
    """Of the model's configuration and weights."""
    dtype: str
    layers: int
    heads: int
    head_dim: int
    n_tokens: int
    start: int = 0
    """Position of the first of them in its sequence."""


class KvImage(msgspec.Struct, frozen=True):
    """The KV of some tokens of one sequence, and of nothing else.

    Tokens are stored one by one, not in blocks: so it does not depend on either side's block
    size, and what else lies in a half-filled block stays home.
    """

    header: KvHeader
    data: memoryview
    """[layers, 2, n_tokens, kv_heads, head_dim] in the byte order of the CPU. As writable as what
    it was made from, and not a copy of it."""

    def to_bytes(self) -> bytes:
        return _head(self.header) + self.data

    @classmethod
    def from_bytes(cls, payload: bytes | memoryview) -> KvImage:
        """Raises `ProtocolError` on anything that is not an image."""
        view = memoryview(payload)
        if len(view) < _PREFIX.size or view[:4] != _MAGIC:
            raise ProtocolError("not a KV image: it must begin with FLKV")
        end = _PREFIX.size + _PREFIX.unpack_from(view)[1]
        try:
            header = msgspec.json.decode(view[_PREFIX.size : end], type=KvHeader)
        except msgspec.MsgspecError as error:
            raise ProtocolError(f"a KV image with a broken header: {error}") from error
        return cls(header, view[end:])


def _head(header: KvHeader) -> bytes:
    text = msgspec.json.encode(header)
    text += b" " * (-(_PREFIX.size + len(text)) % _ALIGNMENT)
    return _PREFIX.pack(_MAGIC, len(text)) + text


def export_image(
    pool: KvPool, fingerprint: str, blocks: Sequence[int], n_tokens: int, start: int = 0
) -> KvImage:
    """In memory of its own."""

    def place(n_bytes: int) -> memoryview:
        return memoryview(bytearray(n_bytes))

    return KvImage.from_bytes(write_image(pool, fingerprint, blocks, n_tokens, start, place))


def write_image(
    pool: KvPool,
    fingerprint: str,
    blocks: Sequence[int],
    n_tokens: int,
    start: int,
    place: Place,
) -> memoryview:
    """A `KvImage` as bytes, in the memory that `place` gives."""
    end = start + n_tokens
    assert n_tokens > 0, "nothing to export"
    assert 0 < end <= len(blocks) * pool.block_tokens, f"{end} tokens in {len(blocks)} blocks"
    head = _head(_header(pool, fingerprint, n_tokens, start))
    image = place(len(head) + n_tokens * pool.shape.token_bytes)
    image[: len(head)] = head
    _gather(pool, _slots(pool, blocks, start, end), image[len(head) :])
    return image


def _gather(pool: KvPool, slots: Tensor, data: memoryview) -> None:
    size = (pool.shape.layers, len(slots), pool.shape.heads, pool.shape.head_dim)
    kv = torch.frombuffer(data, dtype=pool.shape.dtype).view(size)
    if pool.device.type != "cpu":
        kv.copy_(torch.stack([rows[slots] for rows in pool.token_rows]))
        return
    for rows, layer_kv in zip(pool.token_rows, kv, strict=True):
        torch.index_select(rows, 0, slots, out=layer_kv)


def import_image(pool: KvPool, fingerprint: str, image: KvImage, blocks: Sequence[int]) -> None:
    """Raises `ProtocolError`, and changes nothing, where the image does not fit this engine."""
    header = image.header
    _check(image, _header(pool, fingerprint, header.n_tokens, header.start))
    end = header.start + header.n_tokens
    if header.start < 0 or end > len(blocks) * pool.block_tokens:
        raise ProtocolError(f"a KV image of tokens up to {end}, for {len(blocks)} blocks")
    kv = _elements(image.data, pool.shape.dtype).to(pool.device)
    size = (header.layers, 2 * header.n_tokens, header.heads, header.head_dim)
    slots = _slots(pool, blocks, header.start, end)
    for rows, layer_kv in zip(pool.token_rows, kv.view(size), strict=True):
        rows[slots] = layer_kv


def _elements(data: memoryview, dtype: torch.dtype) -> Tensor:
    """The same memory, where torch can work on it; else a copy."""
    if data.readonly or torch.frombuffer(data, dtype=torch.uint8).data_ptr() % dtype.itemsize:
        data = memoryview(bytearray(data))
    return torch.frombuffer(data, dtype=dtype)


def _slots(pool: KvPool, blocks: Sequence[int], start: int, end: int) -> Tensor:
    """Rows of K, then of V."""
    slots = torch.tensor(pool.slots(blocks, start, end), device=pool.device)
    return torch.cat([slots, slots + pool.n_slots])


def _header(pool: KvPool, fingerprint: str, n_tokens: int, start: int) -> KvHeader:
    return KvHeader(
        version=FORMAT_VERSION,
        fingerprint=fingerprint,
        dtype=str(pool.shape.dtype).removeprefix("torch."),
        layers=pool.shape.layers,
        heads=pool.shape.heads,
        head_dim=pool.shape.head_dim,
        n_tokens=n_tokens,
        start=start,
    )


def _check(image: KvImage, expected: KvHeader) -> None:
    for name in KvHeader.__struct_fields__:
        theirs, ours = getattr(image.header, name), getattr(expected, name)
        if theirs != ours:
            raise ProtocolError(f"a KV image of another {name}: {theirs!r}, expected {ours!r}")
    dtype_bytes: int = getattr(torch, expected.dtype).itemsize
    per_token = 2 * expected.layers * expected.heads * expected.head_dim * dtype_bytes
    n_bytes = per_token * expected.n_tokens
    if expected.n_tokens < 1 or len(image.data) != n_bytes:
        raise ProtocolError(
            f"a KV image of {expected.n_tokens} tokens must hold {n_bytes} bytes, "
            f"this one holds {len(image.data)}"
        )
