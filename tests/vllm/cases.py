"""Random workloads for two schedulers, and what one of them decided about a step."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import NamedTuple

STOP_TOKEN = 999
"""Ends an answer; no prompt holds it."""
N_WORDS = 900
"""Token ids below this may stand anywhere."""


@dataclass(frozen=True)
class Asked:
    """One request, and what nobody but the pretended model knows: how long its answer is."""

    id: str
    arrives: int
    """The first step it may take part in."""
    prompt: tuple[int, ...]
    max_tokens: int
    n_output: int
    """Tokens of its answer, at most `max_tokens`."""
    after: str | None = None
    """It comes only once this one has ended: the next turn of its conversation."""
    leaves: int | None = None
    """The step in which its client hangs up."""
    leaves_amid: bool = False
    """While that step runs, rather than before it."""

    def token(self, position: int) -> int:
        """What the pretended model says at an output position."""
        if position == self.n_output - 1:
            return STOP_TOKEN
        return (sum(map(ord, self.id)) * 31 + position * 7919) % N_WORDS

    @property
    def answer(self) -> tuple[int, ...]:
        return tuple(self.token(position) for position in range(self.n_output))


@dataclass(frozen=True)
class Case:
    """One instance and what comes to it."""

    seed: int
    block_tokens: int
    n_blocks: int
    step_tokens: int
    max_sequences: int
    prefix_caching: bool
    whole_prompt: bool
    """An admission wants room for the whole prompt, not only for its first chunk."""
    requests: tuple[Asked, ...]


class Share(NamedTuple):
    """What a step does for one request: its tokens `start` to `start + n` are computed."""

    start: int
    n: int


@dataclass(frozen=True)
class Decision:
    """What a scheduler wants of one step."""

    rows: dict[str, Share]
    running: list[str]
    """Who is admitted, in order of admission."""
    preempted: list[str]
    free_blocks: int
    """That could be given out, cached prefixes evicted if need be."""


def draw_case(seed: int, *, prefix_caching: bool, whole_prompt: bool) -> Case:
    """A case whose memory is anything between ample and barely enough for its largest request."""
    draw = Random(f"{seed} {prefix_caching} {whole_prompt}")
    block_tokens = draw.choice([4, 8, 16])
    max_sequences = draw.choice([1, 2, 4, 8, 16])
    requests = draw_requests(draw, block_tokens, amid=not prefix_caching)
    largest = max(len(one.prompt) + one.max_tokens - 1 for one in requests)
    least = -(-largest // block_tokens)
    return Case(
        seed=seed,
        block_tokens=block_tokens,
        n_blocks=draw.choice([least, least + 1, round(1.3 * least), 2 * least, 8 * least]),
        step_tokens=max(draw.choice([8, 16, 24, 50, 100, 2048]), max_sequences),
        max_sequences=max_sequences,
        prefix_caching=prefix_caching,
        whole_prompt=whole_prompt,
        requests=requests,
    )


def draw_requests(draw: Random, block_tokens: int, *, amid: bool) -> tuple[Asked, ...]:
    """Requests in bursts and one by one. Some share a prefix, some repeat another's prompt or
    follow up on it, some leave early."""
    prefixes = [words(draw, draw.randrange(8 * block_tokens)) for _ in range(3)]
    requests: list[Asked] = []
    arrives = 0
    for i in range(draw.randrange(3, 30)):
        arrives += draw.choice([0, 0, 1, 2, 9])
        own = words(draw, draw.choice([1, 3, draw.randrange(1, 100)]))
        prompt, after = draw.choice([(), *prefixes]) + own, None
        if requests and draw.random() < 0.2:
            earlier = draw.choice(requests)
            prompt, after = earlier.prompt, earlier.after
            if draw.random() < 0.5:
                prompt, after = earlier.prompt + earlier.answer + own, earlier.id
        n_output = draw.choice([1, 2, draw.randrange(1, 60)])
        requests.append(
            Asked(
                id=f"r{i}",
                arrives=arrives,
                prompt=prompt,
                max_tokens=n_output + draw.choice([0, 0, 30]),
                n_output=n_output,
                after=after,
                leaves=arrives + draw.randrange(40) if draw.random() < 0.2 else None,
                leaves_amid=amid and draw.random() < 0.5,
            )
        )
    return tuple(requests)


def words(draw: Random, n: int) -> tuple[int, ...]:
    return tuple(draw.randrange(N_WORDS) for _ in range(n))
