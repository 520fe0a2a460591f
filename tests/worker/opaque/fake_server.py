"""An OpenAI-compatible server in this process that does what a test says, also what none should.

Its model is a function of all tokens so far, a byte each, so that an answer that goes on elsewhere
can be told from one that begins anew.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

LETTERS = b"abcdefgh ijklmnop qrstuvwx yz, "


def next_byte(tokens: Sequence[int]) -> int:
    return LETTERS[zlib.crc32(bytes(token % 256 for token in tokens)) % len(LETTERS)]


def continuation(tokens: Sequence[int], n: int) -> str:
    """What the model says after these tokens."""
    known = list(tokens)
    for _ in range(n):
        known.append(next_byte(known))
    return bytes(known[len(tokens) :]).decode()


@dataclass
class FakeServer:
    """Settings may be changed while it runs."""

    owned_by: str = "vllm"
    name: str = "tiny"
    max_context: int | None = 512
    returns_ids: bool = True
    takes_ids: bool = True
    has_completions: bool = True
    has_chats: bool = True
    lacks: int = 404
    """The status of an address that it does not have."""
    key: str = ""
    page: str = ""
    """Of /metrics; empty for none."""
    tokenizes_to: list[int] | None = None
    pace_s: float = 0.0
    healthy: bool = True
    status: int = 200
    """Of answers."""
    says: str = "no"
    """With another status than 200."""
    dies_after: int | None = None
    """Tokens after which a stream is cut off."""
    hangs_after: int | None = None
    garbage_after: int | None = None
    gives_up_after: int | None = None
    sends_done: bool = True
    calls: list[dict[str, Any]] = field(default_factory=list)
    """Deltas with tool calls; a chat with tools is answered with them, and nothing else."""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    """Of all answers asked for, probes and all."""
    embeds: bool | None = True
    """None: it has no such address. False: it answers nonsense there."""
    embedded: list[dict[str, Any]] = field(default_factory=list)
    hung_up: int = 0
    """Clients that left in the middle of a stream."""
    url: str = ""
    transports: set[asyncio.Transport] = field(default_factory=set)
    """Of streams under way."""

    @property
    def streamed(self) -> list[dict[str, Any]]:
        """Of the streams asked for."""
        return [body for body in self.bodies if body["stream"]]

    # ---------------------------------------------------------------- pages

    async def models(self, request: web.Request) -> web.Response:
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            return self._error(401, "Incorrect API key provided")
        entry: dict[str, Any] = {"id": self.name, "object": "model", "owned_by": self.owned_by}
        if self.max_context is not None:
            entry["max_model_len"] = self.max_context
        return web.json_response({"object": "list", "data": [entry]})

    async def health(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if self.healthy else 503)

    async def metrics(self, request: web.Request) -> web.Response:
        return web.Response(text=self.page) if self.page else web.Response(status=404)

    async def tokenize(self, request: web.Request) -> web.Response:
        if self.tokenizes_to is None:
            return self._error(404, "Not Found")
        return web.json_response({"tokens": self.tokenizes_to})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if not self.has_chats:
            return self._error(self.lacks, "Not Found")
        text = "".join(f"{m['role']}: {m['content']}\n" for m in body["messages"])
        return await self._answer(request, body, list(text.encode()), chat=True)

    async def completions(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if not self.has_completions:
            return self._error(self.lacks, "Not Found")
        prompt = body["prompt"]
        if isinstance(prompt, list) and not self.takes_ids:
            return self._error(400, "prompt must be a string")
        tokens = list(prompt.encode()) if isinstance(prompt, str) else prompt
        return await self._answer(request, body, tokens, chat=False)

    async def embeddings(self, request: web.Request) -> web.Response:
        """The prompt's length, and twice that."""
        body = await request.json()
        self.embedded.append(body)
        if self.embeds is None:
            return self._error(404, "Not Found")
        if self.status != 200:
            return self._error(self.status, self.says)
        if isinstance(body["input"], list) and not self.takes_ids:
            return self._error(400, "input must be a string")
        await asyncio.sleep(self.pace_s)
        n = len(body["input"])
        vector = [float(n), 2.0 * n] if self.embeds else "no vector"
        usage = {"prompt_tokens": n, "total_tokens": n}
        return web.json_response({"data": [{"index": 0, "embedding": vector}], "usage": usage})

    # ---------------------------------------------------------------- answers

    async def _answer(
        self, request: web.Request, body: dict[str, Any], tokens: list[int], *, chat: bool
    ) -> web.StreamResponse:
        self.bodies.append(body)
        if self.status != 200:
            return self._error(self.status, self.says)
        limit = body.get("max_tokens", 16)
        usage = {"prompt_tokens": len(tokens), "completion_tokens": limit}
        if not body["stream"]:
            choice = self._choice(chat, [next_byte(tokens)], "length")
            return web.json_response({"choices": [choice], "usage": usage})
        reply = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await reply.prepare(request)
        assert request.transport is not None
        self.transports.add(request.transport)
        try:
            await self._stream(request, reply, list(tokens), limit, chat, body)
            details = {"prompt_tokens_details": {"cached_tokens": 16}}
            await self._send(reply, {"choices": [], "usage": {**usage, **details}})
            if self.sends_done:
                await reply.write(b"data: [DONE]\n\n")
        except (ConnectionError, asyncio.CancelledError):
            self.hung_up += 1
            raise
        finally:
            self.transports.discard(request.transport)
        return reply

    async def _stream(
        self,
        request: web.Request,
        reply: web.StreamResponse,
        tokens: list[int],
        limit: int,
        chat: bool,
        request_body: dict[str, Any],
    ) -> None:
        if chat and self.calls and "tools" in request_body:
            await self._stream_calls(reply)
            return
        for i in range(limit):
            if i == self.dies_after:
                assert request.transport is not None
                request.transport.abort()
                raise ConnectionResetError
            if i == self.hangs_after:
                await asyncio.sleep(3600)
            if i == self.garbage_after:
                await reply.write(b"data: <html>502 Bad Gateway</html>\n\n")
            await asyncio.sleep(self.pace_s)
            tokens.append(next_byte(tokens))
            finish = "length" if i == limit - 1 else None
            if i == self.gives_up_after:
                finish = "abort"
            await self._send(reply, {"choices": [self._choice(chat, tokens[-1:], finish)]})
            if finish is not None:
                return

    async def _stream_calls(self, reply: web.StreamResponse) -> None:
        for delta in self.calls:
            await asyncio.sleep(self.pace_s)
            await self._send(reply, {"choices": [{"index": 0, "delta": delta}]})
        end = {"index": 0, "delta": {}, "finish_reason": "tool_calls"}
        await self._send(reply, {"choices": [end]})

    def _choice(self, chat: bool, new: list[int], finish: str | None) -> dict[str, Any]:
        text = bytes(new).decode()
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
        choice |= {"delta": {"content": text}} if chat else {"text": text}
        return choice | ({"token_ids": new} if self.returns_ids and not chat else {})

    async def _send(self, reply: web.StreamResponse, chunk: dict[str, Any]) -> None:
        await reply.write(f"data: {json.dumps(chunk)}\n\n".encode())

    @staticmethod
    def _error(status: int, says: str) -> web.Response:
        return web.json_response({"error": {"message": says, "code": status}}, status=status)


@asynccontextmanager
async def serving(server: FakeServer, port: int = 0) -> AsyncIterator[FakeServer]:
    """On a port of its own until the end of the context, which cuts every connection."""
    app = web.Application()
    app.add_routes(
        [
            web.get("/v1/models", server.models),
            web.get("/health", server.health),
            web.get("/metrics", server.metrics),
            web.post("/tokenize", server.tokenize),
            web.post("/v1/chat/completions", server.chat),
            web.post("/v1/completions", server.completions),
            web.post("/v1/embeddings", server.embeddings),
        ]
    )
    runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await site.stop()
        for transport in server.transports:
            transport.abort()
        await runner.cleanup()
