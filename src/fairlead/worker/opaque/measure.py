"""A server's latency from a few seconds of small requests, where no profile says it.

Streams that decode together get a token each a step, so the time between tokens is the step. A
prompt with nothing beside it takes the time to its first token, less the way there and back, which
a prompt of two tokens tells. `fairlead calibrate --url` takes longer and knows its error.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

import msgspec

from fairlead.latency.model import StepShape
from fairlead.model import ConfigError, Request, RequestId, Sampling
from fairlead.worker.opaque.answer import Words
from fairlead.worker.opaque.api import Api
from fairlead.worker.opaque.chunks import Choice
from fairlead.worker.opaque.dialect import Dialect, Prompts, Texts
from fairlead.worker.opaque.errors import ServerError, What

BUDGET_S = 8.0
"""When so much time is spent, no larger shapes are tried."""
WITHIN_S = 60.0
"""For one of them."""
DECODE_TOKENS = 24
NEEDED = 4
"""Measured whatever they cost."""
REPEATS = 2
TINY_REPEATS = 4
"""On the fastest of these hangs what is taken off every prompt's time."""
LEAST_STEPS = 6
Point = tuple[StepShape, float]


@dataclass(frozen=True, slots=True)
class Shape:
    """So many streams at once, each with a prompt of so many tokens."""

    streams: int
    prompt: int
    output: int = DECODE_TOKENS


@dataclass(slots=True)
class Heard:
    """One stream: when it was asked for, and when each of its tokens came."""

    asked_s: float
    times: list[float] = field(default_factory=list)

    @property
    def ttft_s(self) -> float:
        return self.times[0] - self.asked_s


TINY = Shape(1, 2)
# Cheap ones first, and each kind early, so that a slow server stops after those it can afford.
SHAPES = (
    Shape(1, 64, 1),
    Shape(4, 32),
    Shape(1, 256, 1),
    Shape(8, 64),
    Shape(1, 512),
    Shape(1, 1024, 1),
    Shape(16, 32),
    Shape(4, 512),
)


class Vocabulary(Words, Texts, Protocol):
    """What is needed of a tokenizer."""


async def measure(
    api: Api, dialect: Dialect, words: Vocabulary, *, max_sequences: int, seed: str
) -> dict[str, float]:
    """Coefficients of a latency model. Raises `ServerError` where the server fails at it."""
    from fairlead.latency.fit import fit_linear

    prober = _Prober(api, dialect, words, seed)
    begun_s = time.perf_counter()
    points = await prober.tiny()
    for shape in SHAPES:
        if len(points) >= NEEDED and time.perf_counter() - begun_s > BUDGET_S:
            break
        if shape.streams <= max_sequences and shape.prompt + shape.output < dialect.max_context:
            points += await prober.points(shape)
    try:
        return dict(fit_linear(points).coefficients())
    except ConfigError:
        # Points too noisy to tell anything apart still tell how long a step is.
        return {"base_s": points[0][1]}


class _Prober:
    def __init__(self, api: Api, dialect: Dialect, words: Vocabulary, seed: str) -> None:
        self._api = api
        self._dialect = dialect
        self._words = words
        self._rng = Random(seed)
        """Prompts that no cache holds: of another seed each time."""
        self._alphabet = list(
            words.tokens_of("a few words that nobody would ever miss, 0123456789")
        )
        self._way_s = 0.0
        """Beside the steps: network, HTTP, tokenisation."""

    async def tiny(self) -> list[Point]:
        """Sets how long the way is."""
        await self._wave(TINY)  # What is done once only would count for the first.
        waves = [(await self._wave(TINY))[0] for _ in range(TINY_REPEATS)]
        steps = [step for stream in waves if (step := _step_s([stream])) is not None]
        if not steps:
            raise ServerError(What.GARBAGE, "its answers are too short to measure it by")
        step_s = min(steps)
        self._way_s = max(min(stream.ttft_s for stream in waves) - step_s, 0.0)
        context = TINY.prompt + TINY.output // 2
        return [(StepShape(1, context, 0, 0.0, 0, 1), step_s)]

    async def points(self, shape: Shape) -> list[Point]:
        """The fastest of a few attempts: whatever disturbs a step only makes it longer."""
        waves = [await self._wave(shape) for _ in range(REPEATS)]
        n, points = shape.prompt, []
        if shape.streams == 1:
            prefill_s = min(stream.ttft_s for (stream,) in waves) - self._way_s
            if prefill_s > 0:
                points.append((StepShape(0, 0, n, n * n / 2, n, 1), prefill_s))
        steps = [step for wave in waves if (step := _step_s(wave)) is not None]
        if steps:
            context = shape.streams * (n + shape.output // 2)
            points.append((StepShape(shape.streams, context, 0, 0.0, 0, shape.streams), min(steps)))
        return points

    async def _wave(self, shape: Shape) -> list[Heard]:
        try:
            async with asyncio.timeout(WITHIN_S):
                return await asyncio.gather(*(self._stream(shape) for _ in range(shape.streams)))
        except TimeoutError as error:
            raise ServerError(What.ILL, f"no end of {shape} within {WITHIN_S:.0f} s") from error

    async def _stream(self, shape: Shape) -> Heard:
        token_ids = self._rng.choices(self._alphabet, k=shape.prompt)
        body = self._dialect.body(self._request(shape, token_ids), (), self._words)
        body[self._dialect.limit_key] = shape.output
        heard = Heard(time.perf_counter())
        stream = self._api.stream(self._dialect.path, body)
        async with contextlib.aclosing(stream):
            async for chunk in stream:
                for choice in chunk.choices:
                    if n := _tokens_in(choice):
                        heard.times += [time.perf_counter()] * n
        if not heard.times:
            raise ServerError(What.GARBAGE, "a stream brought no token")
        return heard

    def _request(self, shape: Shape, token_ids: Sequence[int]) -> Request:
        chat = b""
        if self._dialect.prompts is Prompts.CHAT:
            text = self._words.raw_text(token_ids)
            chat = msgspec.json.encode([{"role": "user", "content": text}])
        return Request(
            RequestId("measure"),
            arrival_s=0.0,
            prompt_tokens=shape.prompt,
            max_tokens=shape.output,
            # What a server might not know of is asked of none but those that do.
            sampling=Sampling(temperature=0.0, ignore_eos=self._dialect.returns_ids),
            token_ids=token_ids,
            chat=chat,
        )


def _tokens_in(choice: Choice) -> int:
    """By their ids where they are told; else a chunk with text is taken for one."""
    if choice.token_ids is not None:
        return len(choice.token_ids)
    return 1 if choice.text or (choice.delta is not None and choice.delta.content) else 0


def _step_s(wave: Sequence[Heard]) -> float | None:
    """The mean step of streams that ran together: from when the last of them had begun until the
    first ended. Chunks that came in one breath are steps all the same. None where that is too short
    a time."""
    begun_s = max(heard.times[0] for heard in wave)
    ended_s = min(heard.times[-1] for heard in wave)
    steps = sum(sum(begun_s < t <= ended_s for t in heard.times) for heard in wave) / len(wave)
    return (ended_s - begun_s) / steps if steps >= LEAST_STEPS else None
