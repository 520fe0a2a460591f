"""A tiny OpenAI-compatible server in a thread, whose every misdeed a test can choose."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.patience import PATIENCE_S

Answer = Callable[["FakeServer", web.Request, dict[str, Any]], Any]


@dataclass
class FakeServer:
    """Streams `max_tokens` chunks for each request, `token_s` apart."""

    token_s: float = 0.0
    model: dict[str, Any] = field(default_factory=lambda: {"id": "fake"})
    misdeed: str = ""
    """What goes wrong; see `_completion`."""
    cached_tokens: int | None = None
    metrics: str | None = None
    need_key: str | None = None
    bodies: list[dict[str, Any]] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    url: str = ""

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_post("/v1/completions", self._completion)
        app.router.add_post("/v1/chat/completions", self._completion)
        return app

    async def _models(self, request: web.Request) -> web.Response:
        if self.need_key and request.headers.get("Authorization") != f"Bearer {self.need_key}":
            return web.json_response({"error": {"message": "wrong key"}}, status=401)
        if self.misdeed == "no-models":
            return web.Response(text="<html>hello</html>")
        return web.json_response({"object": "list", "data": [self.model]})

    async def _metrics(self, request: web.Request) -> web.Response:
        if self.metrics is None:
            return web.Response(status=404)
        return web.Response(text=self.metrics)

    async def _completion(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        number = len(self.bodies)
        if self.misdeed == "reject-odd" and number % 2:
            error = {"message": "too busy", "code": "no_headroom"}
            return web.json_response({"error": error}, status=429, headers={"Retry-After": "1"})
        if self.misdeed == "fail-all":
            return web.json_response({"error": {"message": "no such tier"}}, status=400)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._stream(request, body)
        finally:
            self.in_flight -= 1

    async def _stream(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await reply.prepare(request)
        chat = "messages" in body
        positions = body.get("fairlead", {}).get("positions", False)
        if chat:
            await _event(reply, {"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        n = body["max_tokens"]
        order = list(range(n))
        if self.misdeed == "repeat" and n > 2:
            order.insert(2, 1)
        if self.misdeed == "skip" and n > 2:
            order.remove(1)
        if self.misdeed == "end-early" and n > 2:
            order = order[:-1]
        for count, position in enumerate(order):
            if self.token_s:
                await asyncio.sleep(self.token_s)
            if self.misdeed == "break-off" and count == 2:
                assert request.transport is not None
                request.transport.close()
                return reply
            if self.misdeed == "error-event" and count == 2:
                await _event(reply, {"error": {"message": "instance lost"}})
                return reply
            text = {"delta": {"content": "x"}} if chat else {"text": "x"}
            chunk: dict[str, Any] = {"choices": [{"index": 0, **text, "finish_reason": None}]}
            if positions and self.misdeed != "unmarked":
                chunk["fairlead"] = {"position": position, "n": 1}
            await _event(reply, chunk)
        end = {"delta": {}} if chat else {"text": ""}
        await _event(reply, {"choices": [{"index": 0, **end, "finish_reason": "length"}]})
        usage: dict[str, Any] = {"prompt_tokens": _prompt_tokens(body), "completion_tokens": n}
        if self.cached_tokens is not None:
            usage["prompt_tokens_details"] = {"cached_tokens": self.cached_tokens}
        await _event(reply, {"choices": [], "usage": usage})
        await reply.write(b"data: [DONE]\n\n")
        return reply


def _prompt_tokens(body: dict[str, Any]) -> int:
    return len(body["prompt"]) if "prompt" in body else len(body["messages"][0]["content"])


async def _event(reply: web.StreamResponse, data: dict[str, Any]) -> None:
    await reply.write(b"data: " + json.dumps(data).encode() + b"\n\n")


@contextmanager
def serving(server: FakeServer) -> Iterator[FakeServer]:
    """Serves on a free port of this machine, in a thread with a loop of its own."""
    loop = asyncio.new_event_loop()
    started = threading.Event()
    runner = web.AppRunner(server.app(), shutdown_timeout=0.1)

    async def start() -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        server.url = f"http://{host}:{port}"
        started.set()

    def work() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert started.wait(PATIENCE_S)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
