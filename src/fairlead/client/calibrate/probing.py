"""Sends the waves of a calibration to a server, and writes down when each token came."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import accumulate, count

import aiohttp

from fairlead.client.body import Api, Asking
from fairlead.client.calibrate.waves import DECODE_TOKENS, NEWCOMERS, Wave
from fairlead.client.errors import connection_error, message_of_body
from fairlead.client.server import Server, headers
from fairlead.client.stream import StreamMeter
from fairlead.model import BATCH, ConfigError, ProtocolError
from fairlead.workload.prompts import PromptMaker
from fairlead.workload.trace import TraceRow

SILENCE_S = 300.0
"""Longest wait for a token before the server counts as stuck."""
SINGLE_TOKENS = 9
"""Output of a request that is sent by itself: eight gaps tell what one token takes."""


@dataclass(slots=True)
class Heard:
    """One request, as its client saw it. Complete when it has ended."""

    prompt_tokens: int
    sent_s: float = 0.0
    first_s: float = 0.0
    """When the first token came."""
    gaps_s: list[float] = field(default_factory=list)
    """Between tokens, as far as the server sent them apart."""
    n_tokens: int = 0
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with the first token."""

    @property
    def ttft_s(self) -> float:
        return self.first_s - self.sent_s

    @property
    def times_s(self) -> list[float]:
        """When something came."""
        return list(accumulate(self.gaps_s, initial=self.first_s))

    @property
    def last_s(self) -> float:
        return self.times_s[-1]

    @property
    def tpot_s(self) -> float:
        """Only of one that brought two tokens or more."""
        return (self.last_s - self.first_s) / (self.n_tokens - 1)

    def tokens_by(self, moment_s: float) -> float:
        """How many had come by then; where several came at once, they count evenly."""
        came = sum(at_s <= moment_s for at_s in self.times_s)
        return came * self.n_tokens / (len(self.gaps_s) + 1)


@dataclass(frozen=True, slots=True)
class Played:
    """A wave that has ended."""

    decoding: list[Heard]
    newcomers: list[Heard]


class Prober:
    """Asks one server. Prompts are drawn from a seed: one that was used before meets a cache."""

    def __init__(self, session: aiohttp.ClientSession, server: Server, seed: int) -> None:
        self._session = session
        self._url = server.url + Api.COMPLETIONS.path
        prompts = PromptMaker(seed, server.vocabulary)
        # With positions, a chunk says how many tokens it holds.
        self._asking = Asking(
            server,
            Api.COMPLETIONS,
            prompts,
            server.vocabulary,
            check_positions=server.is_fairlead,
        )
        self._numbers: Iterator[int] = count(1)

    async def wave(self, wave: Wave, *, together: bool = True) -> Played:
        """Plays it to its end. With `together` newcomers
        arrive while those decode, without it afterwards. Raises `FairleadError`."""
        rows = [self._row(n, DECODE_TOKENS) for n in wave.prompts]
        heard = [Heard(row.prompt_tokens) for row in rows]
        async with _one_error(), asyncio.TaskGroup() as streams:
            tasks = [
                streams.create_task(self._stream(row, one))
                for row, one in zip(rows, heard, strict=True)
            ]
            for one in heard:
                await one.begun.wait()
            if not together and tasks:
                await asyncio.wait(tasks)
            newcomers = await self._newcomers(wave)
        return Played(heard, newcomers)

    async def single(self, prompt_tokens: int) -> Heard:
        """One request with nothing beside it."""
        return await self._ask(self._row(prompt_tokens, SINGLE_TOKENS))

    async def _newcomers(self, wave: Wave) -> list[Heard]:
        prefix = (next(self._numbers),) if wave.cached else ()
        if wave.cached:
            await self._ask(self._row(wave.cached, 1, prefix, wave.cached))
        return [
            await self._ask(self._row(wave.cached + wave.chunk, 1, prefix, wave.cached))
            for _ in range(NEWCOMERS)
        ]

    def _row(
        self, prompt_tokens: int, output_tokens: int, prefix: Sequence[int] = (), shared: int = 0
    ) -> TraceRow:
        return TraceRow(
            next(self._numbers),
            None,
            prompt_tokens,
            output_tokens,
            hash_ids=prefix,
            hash_block_tokens=shared,
        )

    async def _ask(self, row: TraceRow) -> Heard:
        heard = Heard(row.prompt_tokens)
        await self._stream(row, heard)
        return heard

    async def _stream(self, row: TraceRow, heard: Heard) -> None:
        try:
            await self._listen(row, heard)
        except (aiohttp.ClientError, OSError) as error:
            raise ConfigError(f"lost {self._url}: {connection_error(error)}") from error

    async def _listen(self, row: TraceRow, heard: Heard) -> None:
        meter = StreamMeter(lambda gap_s, n: heard.gaps_s.extend([gap_s] * n))
        body = self._asking.body(row, BATCH)
        heard.sent_s = time.perf_counter()
        async with self._session.post(self._url, data=body, headers=_JSON) as reply:
            if reply.status != 200:
                why = message_of_body(await reply.content.read(65536))
                raise ProtocolError(
                    f"{self._url} answers {reply.status} to a prompt of {row.prompt_tokens} tokens "
                    f"with {row.output_tokens} to produce: {why}"
                )
            async for data in reply.content.iter_any():
                meter.feed(data, time.perf_counter())
                if meter.first_token_s is not None and not heard.begun.is_set():
                    heard.first_s = meter.first_token_s
                    heard.begun.set()
        meter.close(row.output_tokens)
        heard.n_tokens = meter.output_tokens
        if meter.error or not heard.begun.is_set():
            raise ProtocolError(
                f"{self._url}: {meter.error or 'a stream brought no token'}; a calibration needs "
                "whole answers"
            )


_JSON = {"Content-Type": "application/json"}


@asynccontextmanager
async def _one_error() -> AsyncIterator[None]:
    """Out of a group of errors comes the first."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


def prober_session(api_key: str | None) -> aiohttp.ClientSession:
    """As many connections as a wave has sequences."""
    return aiohttp.ClientSession(
        headers=headers(api_key),
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=15, sock_read=SILENCE_S),
        auto_decompress=False,
    )
