"""What workers say to each other: a sequence is handed off over a connection of its own.

The source dials, says who it is, and asks; the target answers each question once. Framing is that
of `wire`.
"""

from __future__ import annotations

import asyncio
from mmap import mmap

import msgspec

from fairlead.model import ProtocolError, Request, RequestId
from fairlead.worker.shared import Offer, Own
from fairlead.worker.wire import Message

MAX_BYTES = 256 * 1024 * 1024
"""A piece of KV is 16 MB; a model with a huge KV may have more in its last stage."""


class Greeting(Message, frozen=True):
    """First word of the source."""

    token: str
    """The fleet's shared secret."""
    offer: Offer | None = None
    """Memory for images, which the target may see or not."""


class Image(msgspec.Struct, array_like=True, frozen=True):
    """Where the KV is that comes with a message."""

    n_bytes: int
    is_shared: bool
    """In the offered memory; else its bytes follow the message as they are."""


class Room(Message, frozen=True):
    """Is there room for the first `n_tokens` of this sequence?"""

    request: Request
    """Times in it are on the gateway's clock, as everywhere on the wire."""
    attempt: int
    n_tokens: int


class Piece(Message, frozen=True):
    """KV of the tokens before `end` that did not come yet."""

    request: Request
    attempt: int
    end: int
    image: Image


class Whole(Message, frozen=True):
    """The last KV, and the sequence: go on with it."""

    request: Request
    attempt: int
    produced: list[int]
    n_computed: int
    first_token_s: float | None
    cached_tokens: int
    image: Image
    """Empty where everything has come already."""


class Forget(Message, frozen=True):
    """Nothing more comes."""

    request: RequestId
    attempt: int


class Answer(Message, frozen=True):
    n_cached: int | None
    """Tokens whose KV need not come; None: it will not have the sequence."""
    sees_offer: bool = False


Said = Greeting | Room | Piece | Whole | Forget | Answer
_decoder: msgspec.msgpack.Decoder[Said] = msgspec.msgpack.Decoder(Said)


async def read(reader: asyncio.StreamReader) -> Said:
    """The next thing said. Raises `ProtocolError` on garbage, `OSError` or `EOFError` where the
    other end is gone."""
    size = int.from_bytes(await reader.readexactly(4), "big")
    if size > MAX_BYTES:
        raise ProtocolError(f"a message of {size} bytes; at most {MAX_BYTES} are taken")
    payload = await reader.readexactly(size)
    try:
        return _decoder.decode(payload)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"not a message of a Fairlead worker: {error}") from error


async def read_image(
    reader: asyncio.StreamReader, image: Image, borrowed: mmap | None, own: Own
) -> memoryview:
    """The KV that comes with the message just read, in borrowed or in own memory. Raises like
    `read`, and `ProtocolError` where it is to lie in memory that nobody lent."""
    room = MAX_BYTES
    if image.is_shared:
        room = 0 if borrowed is None else len(borrowed)
    if not 0 <= image.n_bytes <= room:
        raise ProtocolError(f"an image of {image.n_bytes} bytes, where {room} have room")
    if image.is_shared and borrowed is not None:
        return memoryview(borrowed)[: image.n_bytes]
    # Piece by piece, so that no memory is new: the reader's own copy of all would be.
    kv, n = own.place(image.n_bytes), 0
    while n < len(kv):
        came = await reader.read(len(kv) - n)
        if not came:
            raise EOFError("the other end left within an image")
        kv[n : n + len(came)] = came
        n += len(came)
    return kv
