"""A stand-in for an engine: takes the time that a latency model predicts, and says plausible text.

The tokens depend on a request's seed and their position alone, so that a request goes on elsewhere
as if nothing had happened, like with a real engine.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from fairlead.instance.sequence import Sequence
from fairlead.model import FinishReason, RequestId, Row, Sampling
from fairlead.worker.executor import Place

MEDIAN_OUTPUT_TOKENS = 115
SIGMA_OUTPUT = 0.87
"""Median, and standard deviation of the logarithm, of the output lengths in the Azure 2023
conversation trace; they are drawn log-normally."""
CATCH_UP_S = 0.25
"""How far the schedule may lie behind real time. Timers wake up to a millisecond late and a busy
machine later; that much is caught up with. Beyond it the machine cannot keep the pace, and the
slowdown must show in the reports rather than pile up as a burst to come."""
LEAST_SHARE = 0.5
"""Of its time that a step takes also while the schedule is behind. Steps of no time would be a
burst for those who stream, and would teach whoever measures them an engine that does not exist."""
PASSAGE_TOKENS = 32
"""Tokens of text made at a time."""


class Passages(Protocol):
    """Text to say: `n` tokens of the endless text number `seed`, from its token `start` on."""

    def __call__(self, seed: int, start: int, n: int) -> Seq[int]: ...


@dataclass(frozen=True, slots=True)
class EmulatedLogprob:
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class EmulatedOutput:
    tokens: Mapping[RequestId, int]
    stopped: Mapping[RequestId, FinishReason]
    logprobs: Mapping[RequestId, EmulatedLogprob]
    vectors: Mapping[RequestId, bytes] = field(default_factory=dict)
    """None: there is no model."""


@dataclass(slots=True)
class _Speech:
    """What one sequence is going to say next."""

    ends_at: float
    """Output tokens after which it ends by itself, the end-of-sequence token included."""
    start: int = 0
    tokens: Seq[int] = ()

    def token(self, seed: int, position: int, passages: Passages) -> int:
        if not self.start <= position < self.start + len(self.tokens):
            self.start, self.tokens = position, passages(seed, position, PASSAGE_TOKENS)
        return self.tokens[position - self.start]


class Emulated:
    """An `Executor` without a model. Steps are kept to an absolute schedule: each begins where the
    last was due to end, so that late timers do not add up. What was lost is caught up with by
    steps that are shorter, never by steps of no time."""

    embeds = False

    def __init__(
        self,
        passages: Passages,
        eos_token_id: int | None,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        copy_s_per_token: float = 0.0,
    ) -> None:
        """`copy_s_per_token` is what a hand-off takes for each token of KV."""
        self._copy_s_per_token = copy_s_per_token
        self._passages = passages
        self._eos_token_id = eos_token_id
        self._monotonic = monotonic
        self._due_s: float | None = None
        """When the last step was due to end; None after a rest."""
        self._speeches: dict[RequestId, _Speech] = {}

    async def run(
        self, rows: Seq[Row], sequences: Mapping[RequestId, Sequence], predicted_s: float
    ) -> EmulatedOutput:
        now = self._monotonic()
        begun = now if self._due_s is None else max(self._due_s, now - CATCH_UP_S)
        self._due_s = begun + predicted_s
        ends_s = max(self._due_s, now + LEAST_SHARE * predicted_s)
        output = self._speak(sequences[row.request] for row in rows if row.samples)
        # Also where the end is past already: whoever waits for the event loop gets a turn.
        await asyncio.sleep(max(ends_s - self._monotonic(), 0.0))
        return output

    @property
    def moves_kv(self) -> bool:
        return True

    async def export_kv(self, blocks: Seq[int], start: int, end: int, place: Place) -> memoryview:
        await asyncio.sleep((end - start) * self._copy_s_per_token)
        return place(0)

    async def import_kv(self, blocks: Seq[int], image: memoryview) -> None:
        """There is no KV: the tokens follow from seed and position."""

    def objection(self, sampling: Sampling) -> str:
        return "an emulated engine cannot constrain its output" if sampling.constrained else ""

    def forget(self, request_id: RequestId) -> None:
        self._speeches.pop(request_id, None)

    def rest(self) -> None:
        self._due_s = None

    def close(self) -> None:
        self._speeches.clear()

    def _speak(self, speakers: Iterable[Sequence]) -> EmulatedOutput:
        tokens: dict[RequestId, int] = {}
        stopped: dict[RequestId, FinishReason] = {}
        logprobs: dict[RequestId, EmulatedLogprob] = {}
        for sequence in speakers:
            token, last = self._next(sequence)
            tokens[sequence.id] = token
            if last:
                stopped[sequence.id] = FinishReason.STOP
            sampling = sequence.request.sampling
            if sampling.logprobs is not None:
                logprobs[sequence.id] = self._logprob(sequence, token, sampling.logprobs)
        return EmulatedOutput(tokens, stopped, logprobs)

    def _next(self, sequence: Sequence) -> tuple[int, bool]:
        """The next token, and whether it is the last."""
        sampling, position = sequence.request.sampling, sequence.n_produced
        speech = self._speeches.get(sequence.id)
        if speech is None:
            speech = self._speeches[sequence.id] = _Speech(ends_at(sequence))
        token = speech.token(sampling.seed, position, self._passages)
        if position + 1 >= speech.ends_at:
            return (token if self._eos_token_id is None else self._eos_token_id), True
        return token, token in sampling.stop_token_ids and position >= sampling.min_tokens

    def _logprob(self, sequence: Sequence, token: int, n: int) -> EmulatedLogprob:
        """Probabilities that fall by halves; the token drawn is mostly the likeliest."""
        seed, position = sequence.request.sampling.seed, sequence.n_produced
        random = Random(f"fairlead emulated logprob {seed} {position}")
        share = 0.5 + 0.45 * random.random()
        chances = [share * (1 - share) ** i for i in range(max(n, 1))]
        rank = 0 if random.random() < 0.8 else random.randrange(len(chances))
        others = [other for other in self._passages(seed, position + 1, 64) if other != token]
        ranked = list(dict.fromkeys(others))[: len(chances) - 1]
        ranked.insert(rank, token)
        top = [(id_, math.log(chance)) for id_, chance in zip(ranked, chances, strict=False)]
        drawn = math.log(chances[min(rank, len(ranked) - 1)])
        return EmulatedLogprob(drawn, tuple(top[:n]))


def ends_at(sequence: Sequence) -> float:
    """Output tokens after which a sequence ends by itself: drawn from its seed alone."""
    sampling = sequence.request.sampling
    if sampling.ignore_eos:
        return math.inf
    random = Random(f"fairlead emulated length {sampling.seed}")
    drawn = round(random.lognormvariate(math.log(MEDIAN_OUTPUT_TOKENS), SIGMA_OUTPUT))
    # The end-of-sequence token may not be among the first `min_tokens`.
    return max(drawn, 1, sampling.min_tokens + 1)
