"""Plays waves until the time is up, and gathers what they tell: steps with their seconds, and what
requests take beside their steps."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import chain
from random import Random

from fairlead.client.calibrate.inferring import (
    TINY_TOKENS,
    Way,
    decode_point,
    fit_way,
    prefill_point,
)
from fairlead.client.calibrate.probing import Heard, Played, Prober
from fairlead.client.calibrate.waves import FIRST, Room, Wave, waves
from fairlead.latency import Point
from fairlead.latency.calibration import points_of
from fairlead.worker.step_log import StepTail

Progress = Callable[[float, int], None]
"""Told how many seconds have been spent, and how many waves were played in them."""
LEAST_WAVES = 30
"""Waves are made so thin that as many fit into the time."""
LEAST_FIRST = 2.0
"""But a wave may take so many times as long as the first, which is hardly more than its steps."""
FIRST_CAP = 4 * FIRST.tokens
"""Where the search for the tokens that fit into a wave's time begins."""
UNSEEN = 1 / 3
"""Share of the waves that are kept for the check of the fit. Drawn, since whatever counts waves
falls into step with the sequence they come from."""
SETTLE_S = 0.02
"""For the last line of a step log to be written after the last token has come."""


@dataclass(slots=True)
class Measured:
    """What was heard so far."""

    rng: Random
    fitted: list[Point] = field(default_factory=list)
    unseen: list[Point] = field(default_factory=list)
    rests: list[tuple[int, float]] = field(default_factory=list)
    """Prompt tokens, and seconds to the first token that were no step."""

    @property
    def way(self) -> Way:
        return fit_way(self.rests) if self.rests else Way(0.0)

    def add(self, points: list[Point]) -> None:
        """The steps of one more wave."""
        (self.unseen if self.rng.random() < UNSEEN else self.fitted).extend(points)


async def listen_to_steps(
    prober: Prober,
    tail: StepTail,
    room: Room,
    *,
    seconds: float,
    seed: int,
    progress: Progress,
) -> Measured:
    """A worker of our own tells of every step itself: the shape, and how long it took."""
    found = Measured(Random(f"{seed} unseen"))
    await prober.wave(FIRST)
    await asyncio.sleep(SETTLE_S)
    tail.new()

    async def play(wave: Wave) -> None:
        played = await prober.wave(wave)
        await asyncio.sleep(SETTLE_S)
        steps = tail.new()
        found.add(points_of(steps))
        if not wave.decodes and not wave.cached:
            found.rests.append(_rest(played, steps))

    await _until_over(play, room, seconds=seconds, seed=seed, cached=True, progress=progress)
    return found


def _rest(played: Played, steps: list[Point]) -> tuple[int, float]:
    """Newcomers that nothing stood beside: what their first tokens waited for beside the steps."""
    n = len(played.newcomers)
    waited_s = sum(heard.ttft_s for heard in played.newcomers) - sum(s for _, s in steps)
    return played.newcomers[0].prompt_tokens, waited_s / n


async def listen_to_streams(
    prober: Prober,
    room: Room,
    *,
    seconds: float,
    seed: int,
    progress: Progress,
) -> Measured:
    """A server that nobody can look into: steps are inferred from when tokens come. No step with
    both decodes and prompts is among them, for a stream does not tell what it stood beside.

    The way is measured as often as the prompts, all the time: whatever else the machines do then
    lengthens both alike, and is no part of what is left when one is taken off the other."""
    tiny: list[Heard] = []
    heard: list[Played] = []

    async def play(wave: Wave) -> None:
        tiny.append(await prober.single(TINY_TOKENS))
        heard.append(await prober.wave(wave, together=False))

    await prober.wave(FIRST, together=False)
    await _until_over(play, room, seconds=seconds, seed=seed, cached=False, progress=progress)
    rests = [(one.prompt_tokens, one.ttft_s - one.tpot_s) for one in tiny]
    found = Measured(Random(f"{seed} unseen"), rests=rests)
    way = found.way
    for played in heard:
        found.add(_inferred(played, way))
    return found


def _inferred(played: Played, way: Way) -> list[Point]:
    points = [prefill_point(heard, way) for heard in played.newcomers]
    if played.decoding:
        points.append(decode_point(played.decoding))
    return [point for point in points if point is not None]


async def _until_over(
    play: Callable[[Wave], Awaitable[None]],
    room: Room,
    *,
    seconds: float,
    seed: int,
    cached: bool,
    progress: Progress,
) -> None:
    begun_s = ended_s = time.perf_counter()
    allowed_s, cap = math.inf, FIRST_CAP
    for n, wave in enumerate(chain([FIRST], waves(room, seed, cached=cached)), 1):
        if ended_s - begun_s >= seconds:
            return
        await play(wave.within(cap))
        now_s = time.perf_counter()
        took_s, ended_s = now_s - ended_s, now_s
        if wave is FIRST:
            allowed_s = max(seconds / LEAST_WAVES, LEAST_FIRST * took_s)
        elif took_s > allowed_s:
            cap = max(cap // 2, FIRST.tokens)
        else:
            cap = min(2 * cap, room.tokens)
        progress(min(ended_s - begun_s, seconds), n)
