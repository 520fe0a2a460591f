"""Requests that arrive by a process, whatever becomes of them: an open loop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fairlead.workload.columns import Ints, TraceColumns
from fairlead.workload.generate.arrivals import Process
from fairlead.workload.generate.lengths import Distribution, draw_tokens
from fairlead.workload.generate.sharing import Sharing
from fairlead.workload.generate.streams import stream


class Lengths(Protocol):
    """Lengths of requests, prompts and outputs."""

    def draw(self, seed: int) -> LengthDraw: ...


class LengthDraw(Protocol):
    def __call__(self, n: int) -> tuple[Ints, Ints]:
        """The prompts and outputs of the next `n` requests."""
        ...


@dataclass(frozen=True, slots=True)
class Independent:
    """Prompt and output of a request know nothing of each other."""

    prompt: Distribution
    output: Distribution

    def draw(self, seed: int) -> LengthDraw:
        prompts, outputs = stream(seed, "prompt"), stream(seed, "output")

        def next_lengths(n: int) -> tuple[Ints, Ints]:
            return draw_tokens(self.prompt, prompts, n), draw_tokens(self.output, outputs, n)

        return next_lengths


@dataclass(frozen=True, slots=True)
class Pairs:
    """Prompt and output of requests that were seen, together as they were."""

    prompt_tokens: Ints
    output_tokens: Ints

    def draw(self, seed: int) -> LengthDraw:
        rng = stream(seed, "lengths")

        def next_lengths(n: int) -> tuple[Ints, Ints]:
            places = rng.integers(0, len(self.prompt_tokens), n)
            return self.prompt_tokens[places], self.output_tokens[places]

        return next_lengths


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """A drawn workload; equal seeds draw the same."""

    process: Process
    lengths: Lengths
    seed: int = 0
    duration_s: float | None = None
    """Nothing arrives at or after this."""
    n_requests: int | None = None
    """Most requests."""
    sharing: Sharing | None = None
    """Its prefixes come before the drawn prompts, which are what is a request's own."""
    block_tokens: int = 16
    """Tokens of a block that has an id; only where prefixes are shared."""

    def parts(self) -> Iterator[TraceColumns]:
        """The requests in order of arrival, some at a time."""
        lengths = self.lengths.draw(self.seed)
        prefixes = stream(self.seed, "prefixes")
        first = 0
        for times in self.process.times(stream(self.seed, "arrivals")):
            if self.duration_s is not None:
                over = len(times) > 0 and times[-1] >= self.duration_s
                times = times[times < self.duration_s]
            else:
                over = False
            if self.n_requests is not None:
                times = times[: self.n_requests - first]
            if n := len(times):
                prompt, output = lengths(n)
                others: dict[str, Any] = {}
                if self.sharing is not None:
                    prompt = prompt + self.sharing.prefix_tokens()
                    others["hash_ids"] = self.sharing.draw(prefixes, n, self.block_tokens)
                size = self.block_tokens if self.sharing is not None else 0
                index = np.arange(first, first + n)
                yield TraceColumns(index, times, prompt, output, size, others)
                first += n
            if over or first == self.n_requests:
                return
