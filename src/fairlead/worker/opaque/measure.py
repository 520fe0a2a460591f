"""A server's latency from a few seconds of small requests, where no profile says it.

All that is looked at is when answers ended: tokens may come in bursts from a server that is busy
with other things, and their times would tell about those. What longer answers take longer than
shorter ones is their decode steps; what a prompt's first token takes longer than that of a prompt
of two tokens, whose step is that of a decode, is its prefill. `fairlead calibrate --url` takes
longer and knows its error.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
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
"""When so much time is spent, no larger shapes are tried, and nothing that was disturbed again."""
WITHIN_S = 60.0
"""For one wave."""
SHORT, LONG = 4, 28
"""Tokens of the answers whose times are compared."""
LEAST_STEPS = 6
NEEDED = 4
"""Measured whatever they cost."""
REPEATS, MOST_REPEATS = 2, 8
ALIKE = 1.1
"""What disturbs a wave hardly ever takes the same time twice: the two fastest of a shape that
differ by less were not disturbed."""
TINY_PROMPT = 2
# (streams at once, tokens of each prompt): cheap ones first, and each kind early, so that a slow
# server stops after those it can afford.
SHAPES = ((1, 64), (4, 32), (1, 256), (8, 64), (1, 1024), (16, 32), (4, 512), (1, 512))
ALPHABET = "words that nobody would ever miss, 0123456789"
Point = tuple[StepShape, float]


class Vocabulary(Words, Texts, Protocol):
    """What is needed of a tokenizer."""


@dataclass(frozen=True, slots=True)
class Wave:
    """Streams that ran together."""

    seconds: float
    """From asking to the last token, on average."""
    n_tokens: float
    """Of each answer, on average."""


async def measure(
    api: Api, dialect: Dialect, words: Vocabulary, *, max_sequences: int, seed: str
) -> dict[str, float]:
    """Coefficients of a latency model. Raises `ServerError` where the server fails at it."""
    prober = _Prober(api, dialect, words, seed)
    points = await prober.tiny()
    for streams, prompt in SHAPES:
        if len(points) >= NEEDED and prober.is_over():
            break
        if streams <= max_sequences and prompt + LONG < dialect.max_context:
            points += await prober.points(streams, prompt)
    return fitted(points)


def fitted(points: Sequence[Point]) -> dict[str, float]:
    """The coefficients that say best what was measured."""
    from fairlead.latency.fit import fit_linear

    try:
        return dict(fit_linear(points).coefficients())
    except ConfigError:
        # Points too noisy to tell anything apart still tell how long a step is.
        return {"base_s": points[0][1]}


def prefill_point(prompt: int, seconds: float) -> Point:
    """One prompt alone."""
    return StepShape(0, 0, prompt, prompt * prompt / 2, prompt, 1), seconds


class _Prober:
    def __init__(self, api: Api, dialect: Dialect, words: Vocabulary, seed: str) -> None:
        self._api = api
        self._dialect = dialect
        self._words = words
        self._rng = Random(seed)
        """Prompts that no cache holds: of another seed each time."""
        self._alphabet = list(words.tokens_of(ALPHABET))
        self._tiny_s = self._tiny_step_s = 0.0
        """Until the first token of a tiny prompt, and what of that is the step."""
        self._over_s = time.perf_counter() + BUDGET_S

    def is_over(self) -> bool:
        return time.perf_counter() > self._over_s

    async def tiny(self) -> list[Point]:
        """What all prompts are held against."""
        await self._wave(1, TINY_PROMPT, SHORT)  # What is done once only would count for the first.
        step_s = await self._step_s(1, TINY_PROMPT)
        if step_s is None:
            raise ServerError(What.GARBAGE, "its answers are too short to measure it by")
        one = await self._fastest(1, TINY_PROMPT, 1)
        self._tiny_s, self._tiny_step_s = one.seconds, step_s
        return [_decode_point(1, TINY_PROMPT, step_s)]

    async def points(self, streams: int, prompt: int) -> list[Point]:
        if streams == 1:
            longer_s = (await self._fastest(1, prompt, 1)).seconds - self._tiny_s
            return [prefill_point(prompt, max(longer_s, 0.0) + self._tiny_step_s)]
        step_s = await self._step_s(streams, prompt)
        return [] if step_s is None else [_decode_point(streams, prompt, step_s)]

    async def _step_s(self, streams: int, prompt: int) -> float | None:
        """None where the answers are too much alike, or the longer ones were faster."""
        short = await self._fastest(streams, prompt, SHORT)
        long = await self._fastest(streams, prompt, LONG)
        steps, seconds = long.n_tokens - short.n_tokens, long.seconds - short.seconds
        return seconds / steps if steps >= LEAST_STEPS and seconds > 0 else None

    async def _fastest(self, streams: int, prompt: int, output: int) -> Wave:
        """Whatever disturbs a step only makes it longer."""
        waves: list[Wave] = []
        while len(waves) < REPEATS or not (
            _are_alike(waves) or len(waves) == MOST_REPEATS or self.is_over()
        ):
            waves.append(await self._wave(streams, prompt, output))
            waves.sort(key=_per_token_s)
        return waves[0]

    async def _wave(self, streams: int, prompt: int, output: int) -> Wave:
        try:
            async with asyncio.timeout(WITHIN_S):
                heard = await asyncio.gather(
                    *(self._stream(prompt, output) for _ in range(streams))
                )
        except TimeoutError as error:
            raise ServerError(
                What.ILL, f"{streams} answers of {output} tokens take over {WITHIN_S:.0f} s"
            ) from error
        seconds, counts = zip(*heard, strict=True)
        return Wave(sum(seconds) / streams, sum(counts) / streams)

    async def _stream(self, prompt: int, output: int) -> tuple[float, int]:
        """Seconds to the last token, and how many there were."""
        body = self._dialect.body(self._request(prompt, output), (), self._words)
        body[self._dialect.limit_key] = output
        asked_s = last_s = time.perf_counter()
        n = 0
        stream = self._api.stream(self._dialect.path, body)
        async with contextlib.aclosing(stream):
            async for chunk in stream:
                if new := sum(map(_tokens_in, chunk.choices)):
                    n, last_s = n + new, time.perf_counter()
        if not n:
            raise ServerError(What.GARBAGE, "a stream brought no token")
        return last_s - asked_s, n

    def _request(self, prompt: int, output: int) -> Request:
        token_ids: Sequence[int] = self._rng.choices(self._alphabet, k=prompt)
        chat = b""
        if self._dialect.prompts is Prompts.CHAT:
            text = self._words.raw_text(token_ids)
            chat = msgspec.json.encode({"messages": [{"role": "user", "content": text}]})
        return Request(
            RequestId("measure"),
            arrival_s=0.0,
            prompt_tokens=prompt,
            max_tokens=output,
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


def _are_alike(waves: Sequence[Wave]) -> bool:
    """The fastest two of them, which come first."""
    return _per_token_s(waves[1]) < ALIKE * _per_token_s(waves[0])


def _per_token_s(wave: Wave) -> float:
    return wave.seconds / wave.n_tokens


def _decode_point(streams: int, prompt: int, step_s: float) -> Point:
    context = streams * (prompt + (SHORT + LONG) // 2)
    return StepShape(streams, context, 0, 0.0, 0, streams), step_s
