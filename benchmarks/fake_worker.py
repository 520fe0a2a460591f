"""A worker without an instance: speaks the wire, makes up tokens at a set pace, costs little.

It stands in for real workers where the gateway alone is looked at: in `benchmarks/gateway.py` and
in the gateway's tests. As a program it runs several of them in one process:

    python benchmarks/fake_worker.py --join HOST:PORT --token T --model M --n 8 --tokens-per-s 50
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import ssl
import struct
from dataclasses import dataclass, replace
from typing import Any

import uvloop

from fairlead.model import FinishReason, InstanceId, InstanceSpec, Report, Request
from fairlead.worker import wire

WORDS = ("the", "of", "and", "to", "in", "is", "rope", "ship", "ring", "sail", "wind", "knot")
SPEC = InstanceSpec(
    InstanceId("fake"), "chat", "fake-model", n_blocks=65536, latency={"base_s": 0.02}
)


@dataclass
class Speech:
    """One sequence: how far it is, and what it has said."""

    submit: wire.Submit
    position: int
    text: str = ""

    @property
    def request(self) -> Request:
        return self.submit.request


class FakeWorker(asyncio.Protocol):
    """One connection to a gateway. Without a pace it makes a step only when told to."""

    def __init__(
        self,
        spec: InstanceSpec = SPEC,
        token: str = "secret",
        *,
        pace_s: float | None = None,
        version: int = wire.VERSION,
        held: list[Any] | None = None,
        heartbeats: bool = True,
        eager: bool = False,
    ) -> None:
        self.spec = spec
        self.token = token
        self.pace_s = pace_s
        """Seconds a step; 0 makes one as soon as there is something to do."""
        self.version = version
        self.held = held or []
        self.heartbeats = heartbeats
        self.eager = eager
        """The first token of a sequence comes at once, in a frame of its own."""
        self.said: list[wire.Message] = []
        """What the gateway said, apart from submits."""
        self.submits: list[wire.Submit] = []
        self.speeches: dict[str, Speech] = {}
        self.closed = False
        self.news = asyncio.Event()
        self._splitter = wire.Splitter()
        self._timer: asyncio.TimerHandle | None = None
        self._beat: asyncio.TimerHandle | None = None

    async def join(self, address: str, tls: ssl.SSLContext | None = None) -> FakeWorker:
        host, _, port = address.rpartition(":")
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self, host, int(port), ssl=tls)
        await self.until(lambda: bool(self.said) or self.closed)
        return self

    async def until(self, condition: Any, timeout_s: float = 300.0) -> None:
        """Returns as soon as the condition holds; it is looked at after every message."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                self.news.clear()
                await self.news.wait()

    @property
    def aborted(self) -> set[tuple[str, int]]:
        """A set: the gateway says it again to a worker whose report crossed the first Abort."""
        return {(m.request, m.attempt) for m in self.said if isinstance(m, wire.Abort)}

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(wire.pack(self.hello()))

    def hello(self) -> wire.Hello:
        return wire.Hello(self.version, self.token, self.spec, "fake", self.held)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        for timer in (self._timer, self._beat):
            if timer is not None:
                timer.cancel()
        self.news.set()

    def data_received(self, data: bytes) -> None:
        fresh: list[Speech] = []
        for payload in self._splitter.feed(data):
            self._take(wire.unpack_from_gateway(payload), fresh)
        if self.eager and fresh:
            self.step(fresh)
        self._wake()
        self.news.set()

    def leave(self) -> None:
        self.transport.abort()

    def send(self, message: wire.Message) -> None:
        self.transport.write(wire.pack(message))

    def _take(self, message: wire.ToWorker, fresh: list[Speech]) -> None:
        if isinstance(message, wire.Submit):
            speech = Speech(message, len(message.produced))
            self.speeches[message.request.id] = speech
            fresh.append(speech)
            if not self.eager:
                self.submits.append(message)
            return
        self.said.append(message)
        if isinstance(message, wire.Abort):
            self.speeches.pop(message.request, None)
        elif isinstance(message, wire.Welcome) and self.heartbeats:
            self._heartbeat(message.heartbeat_s)

    def _wake(self) -> None:
        if self._timer is None and self.pace_s is not None and self.speeches:
            loop = asyncio.get_running_loop()
            self._due_s = loop.time() + self.pace_s
            self._timer = loop.call_at(self._due_s, self._paced_step)

    def _paced_step(self) -> None:
        self._timer = None
        self.step()
        if self.speeches and self.pace_s is not None:
            self._due_s += self.pace_s
            self._timer = asyncio.get_running_loop().call_at(self._due_s, self._paced_step)

    def step(self, speeches: list[Speech] | None = None) -> None:
        """One frame with one more token of every sequence."""
        rows, ended = [], []
        for speech in list(self.speeches.values()) if speeches is None else speeches:
            row, reason = self._speak(speech)
            rows.append(row)
            if reason is not None:
                del self.speeches[row.request]
                cached = 16 * (speech.request.prompt_tokens // 32)
                ended.append(wire.End(row.request, row.attempt, reason, cached))
        if rows:
            self.send(wire.Frame(rows, ended))

    def _speak(self, speech: Speech) -> tuple[wire.Row, FinishReason | None]:
        request, position = speech.request, speech.position
        sampling = request.sampling
        token = word_at(sampling.seed, position)
        text = WORDS[token] + " "
        speech.position += 1
        speech.text += text
        reason = FinishReason.LENGTH if speech.position >= request.max_tokens else None
        stopped_by = ""
        for stop in sampling.stop:
            if stop in speech.text:
                text, reason, stopped_by = text[: -len(stop)], FinishReason.STOP, stop
        logprobs: list[object] | None = None
        if sampling.logprobs is not None:
            top = [[WORDS[(token + k) % len(WORDS)] + " ", -0.5 - k] for k in range(3)]
            logprobs = [[-0.5, WORDS[token] + " ", top[: sampling.logprobs]]]
        attempt = speech.submit.attempt
        vector = vector_of(request) if request.embeds else b""
        row = wire.Row(
            request.id, attempt, position, [token], text, logprobs, stopped_by, vector=vector
        )
        return row, reason

    def _heartbeat(self, every_s: float) -> None:
        if not self.closed:
            self.send(wire.Heartbeat(self.report()))
            loop = asyncio.get_running_loop()
            self._beat = loop.call_later(every_s, self._heartbeat, every_s)

    def report(self) -> Report:
        inside = tuple((s.request.id, s.submit.attempt) for s in self.speeches.values())
        return Report(
            instance=self.spec.id,
            as_of_s=0.0,
            free_blocks=self.spec.n_blocks // 2,
            cached_blocks=self.spec.n_blocks // 4,
            running=len(inside),
            waiting=0,
            queued_tokens=0,
            context_tokens=0,
            requests=inside,
        )


def vector_of(request: Request) -> bytes:
    """The prompt's length, and twice that, thrice that..."""
    return struct.pack("<4f", *[(k + 1) * request.prompt_tokens for k in range(4)])


def word_at(seed: int, position: int) -> int:
    """The token at a position depends on the seed alone, as with a real engine."""
    return hashlib.blake2b(f"{seed} {position}".encode(), digest_size=2).digest()[0] % len(WORDS)


async def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--join", required=True, help="HOST:PORT of the gateway")
    parser.add_argument("--token", required=True)
    parser.add_argument("--model", default=SPEC.model)
    parser.add_argument("--n", type=int, default=1, help="how many workers")
    parser.add_argument("--tokens-per-s", type=float, default=50.0, help="of each sequence")
    parser.add_argument("--eager", action="store_true", help="first tokens come at once")
    options = parser.parse_args()
    workers = []
    for index in range(options.n):
        spec = replace(
            SPEC, id=InstanceId(f"fake-{index}"), model=options.model, incarnation=str(index)
        )
        pace_s = 1 / options.tokens_per_s
        worker = FakeWorker(spec, options.token, pace_s=pace_s, eager=options.eager)
        workers.append(await worker.join(options.join))
    while not all(worker.closed for worker in workers):
        await asyncio.sleep(0.1)


if __name__ == "__main__":
    uvloop.run(main())
