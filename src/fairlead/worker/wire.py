"""The protocol between a gateway and its workers: what is said, and how it is framed.

A worker dials the gateway and says `Hello`; the gateway answers `Welcome`, or `Goodbye` with the
reason and hangs up. From then on the gateway sends `Submit`, `Abort`, `Move`, `Drain`, `Ping`; the
worker sends one `Frame` per engine step, a `Heartbeat` with its report at least every
`Welcome.heartbeat_s` and when it is about to leave, `Rejected` where it cannot take a request,
`Moved` when a hand-off has ended, and `Goodbye` when it leaves.

On the socket a message is four bytes of length (big-endian) and that many bytes of MessagePack:
an array whose first item is the tag.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from fairlead.model import (
    FinishReason,
    InstanceSpec,
    ProtocolError,
    RefuseWhy,
    Report,
    Request,
    RequestId,
)

VERSION = 5
"""Raised with every incompatible change; both ends must agree."""
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""A prompt of a million tokens takes 5 MB; anything near this bound is garbage."""
MAX_HELLO_BYTES = 64 * 1024
"""Before a worker is known it may not make us hold more than this."""


class Message(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """One thing said; its tag is the name of its class."""


class Hello(Message, frozen=True):
    """First word of a worker."""

    version: int
    token: str
    """The fleet's shared secret."""
    spec: InstanceSpec
    """What this worker is. The gateway may give it another `id`."""
    fairlead: str = ""
    """Its release, for messages only."""
    held: list[tuple[RequestId, int]] = []
    """(request, attempt) of sequences it still runs from before a lost connection."""


class Welcome(Message, frozen=True):
    instance: str
    """The name under which the gateway knows this worker from now on."""
    gateway_time_s: float
    heartbeat_s: float


class Submit(Message, frozen=True):
    request: Request
    attempt: int
    produced: list[int]


class Abort(Message, frozen=True):
    request: RequestId
    attempt: int


class Move(Message, frozen=True):
    """Hand a sequence off to another worker: see `worker/handoff.py`."""

    request: RequestId
    attempt: int
    to_attempt: int
    target: str
    """HOST:PORT where that worker takes sequences."""
    certificate: str = ""
    """SHA-256 of what it shows there, in hex; empty: no TLS."""


class Drain(Message, frozen=True):
    """Take nothing new, finish what is inside, then say goodbye."""


class Ping(Message, frozen=True):
    """Asks for a heartbeat now; tells how the clocks differ."""

    gateway_time_s: float
    whole_cache: bool = False
    """Its report is to tell the whole cache: of what was said about it, something was lost."""


class Row(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """New tokens of one sequence, with what its client is to see. A `model.TokenRow`."""

    request: RequestId
    attempt: int
    start: int
    token_ids: list[int]
    text: str = ""
    """Text that became certain with these tokens: complete characters, no part of a stop string."""
    logprobs: list[object] | None = None
    """One entry a token: [logprob, text of token, [[text, logprob], ...]]."""
    stopped_by: str = ""
    """The stop string that the sequence ended with; empty where it did not, or nobody knows."""
    plain: bool = False
    """There is no call of a tool in the text, whatever it looks like."""
    vector: bytes = b""
    """Of a request that embeds: float32, little-endian."""


class End(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A sequence ended by itself, after the rows of the same frame."""

    request: RequestId
    attempt: int
    reason: FinishReason
    cached_tokens: int


class Frame(Message, frozen=True):
    """What one engine step brought: the tokens of all sequences, and those that ended."""

    rows: list[Row]
    ended: list[End] = []
    preempted: list[tuple[RequestId, int]] = []


class Rejected(Message, frozen=True):
    request: RequestId
    attempt: int
    why: RefuseWhy
    said: str = ""
    """The engine's own words."""


class Moved(Message, frozen=True):
    """A hand-off has ended."""

    request: RequestId
    attempt: int
    """As it was called here."""
    done: bool


class Heartbeat(Message, frozen=True):
    report: Report
    leaving: bool = False
    """The worker was told to stop: it takes nothing new, and ends when nothing is inside."""


class Goodbye(Message, frozen=True):
    why: str


ToWorker = Welcome | Submit | Abort | Move | Drain | Ping | Goodbye
ToGateway = Hello | Frame | Heartbeat | Rejected | Moved | Goodbye

_encoder = msgspec.msgpack.Encoder()
_from_gateway: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_from_worker: msgspec.msgpack.Decoder[ToGateway] = msgspec.msgpack.Decoder(ToGateway)


def pack(message: Message) -> bytes:
    """The message as it goes onto the socket."""
    buffer = bytearray(4)
    _encoder.encode_into(message, buffer, 4)
    buffer[:4] = (len(buffer) - 4).to_bytes(4, "big")
    return bytes(buffer)


def unpack_from_worker(payload: bytes | memoryview) -> ToGateway:
    """Raises `ProtocolError` on anything that is not a worker's message."""
    try:
        return _from_worker.decode(payload)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"not a message of a Fairlead worker: {error}") from error


def unpack_from_gateway(payload: bytes | memoryview) -> ToWorker:
    """Raises `ProtocolError` on anything that is not a gateway's message."""
    try:
        return _from_gateway.decode(payload)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"not a message of a Fairlead gateway: {error}") from error


class Splitter:
    """Cuts a byte stream into payloads."""

    def __init__(self, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self.max_bytes = max_bytes
        """May be raised once the other end is known."""
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yields every payload that is complete now. Raises `ProtocolError` on an absurd length."""
        self._buffer += data
        offset = 0
        try:
            while len(self._buffer) - offset >= 4:
                size = int.from_bytes(self._buffer[offset : offset + 4], "big")
                if size > self.max_bytes:
                    raise ProtocolError(
                        f"a message of {size} bytes is over the limit of {self.max_bytes}; "
                        "is something else speaking on the workers' port?"
                    )
                if len(self._buffer) - offset - 4 < size:
                    break
                payload = bytes(self._buffer[offset + 4 : offset + 4 + size])
                offset += 4 + size
                yield payload
        finally:
            del self._buffer[:offset]
