"""One call of one client: what it asks for, what it must get, and what it got."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import Any

import msgspec

from fairlead.gateway.sampling import derived_seed
from fairlead.text import NANO, Tokenizer, passage_tokens
from soaking.fleet import MODEL

STUCK_S = 60.0
"""A call of which nothing was heard for so long is stuck."""


class End(Enum):
    FINISHED = "finished"
    LEFT = "left by its client"
    CUT = "cut by a gateway's death"
    REJECTED = "rejected"
    FAILED = "failed"


@dataclass(slots=True)
class Call:
    """No other call of its key has a prompt of so many tokens: that is how it is found in the
    ledger."""

    tenant: str
    key_id: str
    prompt_tokens: int
    body: dict[str, Any]
    chat: bool
    leaves_after: int | None = None
    """Tokens after which its client leaves."""
    says_so: bool = False
    """It leaves by closing its side only, and reads what was sent until the gateway noticed."""
    texts: list[str] = field(default_factory=list)
    """What came, by choice."""
    told_tokens: int | None = None
    """What the answer's `usage` says."""
    end: End = End.FAILED
    said: str = ""
    """Of a call that was rejected or failed: why."""
    begun_s: float = 0.0
    left_s: float = 0.0
    """When its client left, since 1970."""

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream"))

    @property
    def got_tokens(self) -> int:
        """A token is a byte of ASCII."""
        return sum(map(len, self.texts))

    def problems(self) -> list[str]:
        """What is wrong with what came: a token that is lost, repeated or another."""
        wanted = self.body["max_tokens"]
        found = []
        for k, text in enumerate(self.texts):
            due = expected_text(derived_seed(self.body["seed"], k), wanted)
            if not due.startswith(text):
                found.append(f"choice {k} is another text from position {_same(due, text)} on")
            elif self.end is End.FINISHED and len(text) != wanted:
                found.append(f"choice {k} ended after {len(text)} of {wanted} tokens")
        if self.end is End.FINISHED and self.told_tokens not in (None, self.got_tokens):
            found.append(f"usage says {self.told_tokens} tokens, {self.got_tokens} came")
        return found


def expected_text(seed: int, n: int) -> str:
    """What an emulated engine says, from the seed alone."""
    return tokenizer().decode(passage_tokens(tokenizer(), seed, 0, n))


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer.load(NANO)


def _same(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))


# ---------------------------------------------------------------- over the wire


class _Rejected(Exception):  # noqa: N818 (an outcome)
    pass


async def play(call: Call, port: int, secret: str) -> None:
    """Asks, and reads what comes; the call knows in the end how it went."""
    call.begun_s = time.monotonic()
    call.texts = [""] * (call.body.get("n") or 1)
    writer: asyncio.StreamWriter | None = None
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(_request(call, secret))
        await _read(call, reader, writer)
    except _Rejected as error:
        call.end, call.said = End.REJECTED, str(error)
    except (OSError, asyncio.IncompleteReadError) as error:
        call.end, call.said = End.CUT, repr(error)
    except TimeoutError:
        call.end, call.said = End.FAILED, f"stuck: nothing for {STUCK_S:g} s"
    finally:
        if writer is not None:
            writer.transport.abort()


def _request(call: Call, secret: str) -> bytes:
    data = msgspec.json.encode({"model": MODEL, "ignore_eos": True, **call.body})
    path = "/v1/chat/completions" if call.chat else "/v1/completions"
    head = (
        f"POST {path} HTTP/1.1\r\nhost: soak\r\nauthorization: Bearer {secret}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


async def _read(call: Call, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await _soon(reader.readuntil(b"\r\n\r\n"))
    status = int(head.split(b" ", 2)[1])
    if status != 200 or not call.stream:
        body = await _soon(reader.readexactly(_length(head)))
        _take_whole(call, status, msgspec.json.decode(body))
        return
    leaving = False
    async for event in _events(reader):
        if event == b"[DONE]":
            call.end = End.FINISHED
            return
        _take_chunk(call, msgspec.json.decode(event))
        if call.said:
            return
        if call.leaves_after is not None and call.got_tokens >= call.leaves_after and not leaving:
            call.end, leaving = End.LEFT, True
            call.left_s = time.time()
            if not call.says_so:
                return
            writer.write_eof()
    if not leaving:
        raise asyncio.IncompleteReadError(b"", None)


async def _soon(reading: Any) -> Any:
    async with asyncio.timeout(STUCK_S):
        return await reading


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


async def _events(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Server-sent events out of a chunked body. Ends without `[DONE]` where a client that leaves
    has read everything."""
    rest = b""
    while True:
        line = await _soon(reader.readline())
        if not line:
            return
        size = int(line, 16)
        rest += (await _soon(reader.readexactly(size + 2)))[:-2]
        *events, rest = rest.split(b"\n\n")
        for event in events:
            if event.startswith(b"data: "):
                yield event[6:]
        if not size:
            return


def _take_whole(call: Call, status: int, answer: dict[str, Any]) -> None:
    if status in (429, 503):
        raise _Rejected(f"{status} {answer['error']['code']}")
    if status != 200:
        call.end, call.said = End.FAILED, f"{status} {answer['error']['message']}"
        return
    for choice in answer["choices"]:
        text = choice["message"]["content"] if call.chat else choice["text"]
        call.texts[choice["index"]] = text or ""
    call.told_tokens = answer["usage"]["completion_tokens"]
    call.end = End.FINISHED


def _take_chunk(call: Call, chunk: dict[str, Any]) -> None:
    if "error" in chunk:
        call.end, call.said = End.FAILED, f"in its stream: {chunk['error']['code']}"
        return
    for choice in chunk["choices"]:
        text = choice["delta"].get("content") if call.chat else choice["text"]
        call.texts[choice["index"]] += text or ""
    if chunk.get("usage"):
        call.told_tokens = chunk["usage"]["completion_tokens"]
