"""OpenAI-compatible engines that cost next to nothing: several in one process, each at a port.

They stand behind gateways whose own cost is measured, ours and others' alike. A stream gets its
first token at once and one more at every step of its engine; all streams of an engine get theirs
together, as those of a real one do. Whole answers come at once.

    python benchmarks/mock_engine.py --n 8 --tokens-per-s 50     # prints the addresses as JSON
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from functools import cache
from typing import Any

import uvloop

MODEL = "fake-model"
WORDS = ("rope ", "ship ", "ring ", "sail ", "wind ", "knot ", "mast ", "helm ")
"""Said in turn: some gateways stop a stream that says the same all the time."""
_KIND = "HTTP/1.1 {} \r\ncontent-type: {}\r\n"
_STREAM = (_KIND.format(200, "text/event-stream") + "transfer-encoding: chunked\r\n\r\n").encode()
_USAGE = {"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 21}


class Engine:
    """Streams that take their steps together."""

    def __init__(self, pace_s: float, begin_s: float) -> None:
        self.streams: dict[Connection, int] = {}
        """With the tokens that each still has to say."""
        self._pace_s = pace_s
        self._due_s = begin_s
        self._beat()

    def _beat(self) -> None:
        for connection, left in list(self.streams.items()):
            connection.say(last=left <= 1)
            if left <= 1:
                del self.streams[connection]
            else:
                self.streams[connection] = left - 1
        self._due_s += self._pace_s
        asyncio.get_running_loop().call_at(self._due_s, self._beat)


class Connection(asyncio.Protocol):
    """One connection; requests on it come one after the other."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._data = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._engine.streams.pop(self, None)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end]
            found = _body(head, self._data[end + 4 :])
            if found is None:
                return
            body, self._data = found
            if head.startswith(b"PRI "):  # It tries HTTP/2, to find out whether this speaks gRPC.
                self.transport.close()
                return
            self._answer(head.split(b" ", 2)[1].decode(), body)

    def _answer(self, path: str, body: bytes) -> None:
        if path.endswith("/completions"):
            self._complete(path.endswith("/chat/completions"), json.loads(body))
        elif path.endswith("/models"):
            self._whole(200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})
        elif path == "/health":
            self._whole(200, {})
        elif path in ("/get_model_info", "/model_info"):
            self._whole(200, {"model_path": MODEL, "is_generation": True})
        elif path in ("/get_server_info", "/server_info"):
            self._whole(200, {"model_path": MODEL, "served_model_name": MODEL, "tp_size": 1})
        else:
            self._whole(404, {"error": {"message": f"there is no {path}"}})

    def _complete(self, chat: bool, asked: dict[str, Any]) -> None:
        n = asked.get("max_tokens") or asked.get("max_completion_tokens") or 16
        if not asked.get("stream"):
            said = "rope " * n
            choice = {"message": {"role": "assistant", "content": said}} if chat else {"text": said}
            kind = "chat.completion" if chat else "text_completion"
            self._whole(
                200,
                _shape(kind, {"index": 0, "finish_reason": "length", **choice}) | {"usage": _USAGE},
            )
            return
        self._more, self._end = _chunks(chat)
        self._said = 0
        self.transport.write(_STREAM)
        self.say(last=n == 1)
        if n > 1:
            self._engine.streams[self] = n - 1

    def say(self, *, last: bool) -> None:
        """One more token."""
        more = self._more[self._said % len(WORDS)]
        self._said += 1
        self.transport.write(more + self._end if last else more)

    def _whole(self, status: int, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        head = _KIND.format(status, "application/json") + f"content-length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)


def _body(head: bytes, data: bytes) -> tuple[bytes, bytes] | None:
    """The body of a request and what comes after it; None until it is whole."""
    head = head.lower()
    if b"transfer-encoding: chunked" in head:
        return _unchunked(data)
    at = head.find(b"content-length:")
    size = 0 if at < 0 else int(head[at + 15 :].split(b"\r\n", 1)[0])
    return (data[:size], data[size:]) if len(data) >= size else None


def _unchunked(data: bytes) -> tuple[bytes, bytes] | None:
    body = b""
    while True:
        size, line_end, data = data.partition(b"\r\n")
        if not line_end or len(data) < int(size, 16) + 2:
            return None
        n = int(size, 16)
        body, data = body + data[:n], data[n + 2 :]
        if not n:
            return body, data


@cache
def _chunks(chat: bool) -> tuple[list[bytes], bytes]:
    """Tokens of a stream, and what comes after the last."""
    kind = "chat.completion.chunk" if chat else "text_completion"

    def event(text: str | None, reason: str | None = None) -> bytes:
        said = {"delta": {"content": text} if text else {}} if chat else {"text": text or ""}
        return _event(json.dumps(_shape(kind, {"index": 0, "finish_reason": reason, **said})))

    return [event(word) for word in WORDS], event(None, "length") + _event("[DONE]") + b"0\r\n\r\n"


def _shape(kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "chatcmpl-5f1c3a",
        "object": kind,
        "created": 1700000000,
        "model": MODEL,
        "choices": [choice],
    }


def _event(data: str) -> bytes:
    event = f"data: {data}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(event), event)


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=8, help="engines")
    parser.add_argument("--tokens-per-s", type=float, default=50.0, help="of each stream")
    options = parser.parse_args()
    loop = asyncio.get_running_loop()
    pace_s = 1 / options.tokens_per_s
    addresses = []
    for k in range(options.n):
        engine = Engine(pace_s, loop.time() + k * pace_s / options.n)
        server = await loop.create_server(lambda engine=engine: Connection(engine), "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        addresses.append(f"http://{host}:{port}")
    print(json.dumps(addresses), flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main())
