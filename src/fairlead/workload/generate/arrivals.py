"""When requests arrive: processes of a given mean rate, drawn from a generator.

Each yields arrays of times in seconds from 0 on, never decreasing and without end. How a time is
drawn never depends on how many are taken.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar, Protocol

import numpy as np

from fairlead.workload.columns import Floats
from fairlead.workload.generate import spec

AT_ONCE = 1024
"""Draws made together."""
MOST_CV = 100.0
"""Beyond it all arrivals but a few are at once."""


class Process(Protocol):
    """An arrival process."""

    @property
    def rate(self) -> float:
        """Mean arrivals per second."""
        ...

    def times(self, rng: np.random.Generator) -> Iterator[Floats]:
        """Arrays of arrival times in order; some may be empty."""
        ...


def each(process: Process, rng: np.random.Generator) -> Iterator[float]:
    """The arrival times one by one."""
    return chain.from_iterable(times.tolist() for times in process.times(rng))


@dataclass(frozen=True, slots=True)
class Constant:
    """Evenly spaced arrivals."""

    EXAMPLE: ClassVar[str] = "constant:rate=5"
    rate: float

    def __post_init__(self) -> None:
        spec.above_0(rate=self.rate)

    def times(self, rng: np.random.Generator) -> Iterator[Floats]:
        first = 1
        while True:
            yield np.arange(first, first + AT_ONCE) / self.rate
            first += AT_ONCE


@dataclass(frozen=True, slots=True)
class Poisson:
    """Arrivals of many users who know nothing of each other: exponential gaps."""

    EXAMPLE: ClassVar[str] = "poisson:rate=5"
    rate: float

    def __post_init__(self) -> None:
        spec.above_0(rate=self.rate)

    def times(self, rng: np.random.Generator) -> Iterator[Floats]:
        now_s = 0.0
        while True:
            times = now_s + np.cumsum(rng.standard_exponential(AT_ONCE)) / self.rate
            yield times
            now_s = float(times[-1])


@dataclass(frozen=True, slots=True)
class Gamma:
    """Independent gaps of a Gamma law; the higher their coefficient of variation, the burstier."""

    EXAMPLE: ClassVar[str] = "gamma:rate=5,cv=2"
    rate: float
    cv: float = 2.0
    """Standard deviation of the gaps over their mean; 1 is Poisson, 0 even spacing."""

    def __post_init__(self) -> None:
        spec.above_0(rate=self.rate, cv=self.cv)
        if self.cv > MOST_CV:
            raise ValueError(f"cv must be at most {MOST_CV:g}, got {self.cv:g}")

    def times(self, rng: np.random.Generator) -> Iterator[Floats]:
        shape = 1 / self.cv**2
        # The first gap is what is left of one under way, as for someone who comes by at any time;
        # otherwise high CVs would begin with a crowd.
        now_s = rng.random() * rng.gamma(shape + 1) / shape / self.rate
        while True:
            gaps = rng.gamma(shape, size=AT_ONCE) / shape / self.rate
            times = now_s + np.concatenate([[0.0], np.cumsum(gaps)])
            yield times[:-1]
            now_s = float(times[-1])


@dataclass(frozen=True, slots=True)
class Bursts:
    """Poisson arrivals in bursts with silence between them; bursts and silences last for
    exponential times."""

    EXAMPLE: ClassVar[str] = "bursts:rate=5,on=10,off=30"
    rate: float
    """Mean over bursts and silences."""
    on: float = 10.0
    """Mean seconds of a burst."""
    off: float = 30.0
    """Mean seconds of silence between two."""

    def __post_init__(self) -> None:
        spec.above_0(rate=self.rate, on=self.on, off=self.off)
        if self.rate * (self.on + self.off) < 1e-3:
            raise ValueError("less than one request in a thousand bursts; expected a higher rate")

    def times(self, rng: np.random.Generator) -> Iterator[Floats]:
        inside = self.rate * (self.on + self.off) / self.on
        now_s = 0.0
        if rng.random() < self.off / (self.on + self.off):
            now_s += rng.exponential(self.off)
        while True:
            on_s = rng.exponential(self.on)
            # A long burst in slices, so that none holds more than a few thousand arrivals.
            for start_s in np.arange(0.0, on_s, AT_ONCE / inside).tolist():
                slice_s = min(AT_ONCE / inside, on_s - start_s)
                n = rng.poisson(inside * slice_s)
                yield now_s + start_s + np.sort(rng.random(n)) * slice_s
            now_s += on_s + rng.exponential(self.off)


@dataclass(frozen=True, slots=True)
class Diurnal:
    """Poisson arrivals whose rate swings like a sine: mean at 0, highest at a quarter period."""

    EXAMPLE: ClassVar[str] = "diurnal:rate=5,period=86400,amplitude=0.8"
    rate: float
    period: float = 86_400.0
    """Seconds from one peak to the next."""
    amplitude: float = 0.8
    """Swing over mean, from 0 to 1: at 0.8 the rate lies between 0.2 and 1.8 of its mean."""

    def __post_init__(self) -> None:
        spec.above_0(rate=self.rate, period=self.period)
        if not 0 <= self.amplitude <= 1:
            raise ValueError(f"amplitude must be between 0 and 1, got {self.amplitude:g}")

    def times(self, rng: np.random.Generator) -> Iterator[Floats]:
        """By thinning a process of the highest rate."""
        highest = self.rate * (1 + self.amplitude)
        now_s = 0.0
        while True:
            times = now_s + np.cumsum(rng.standard_exponential(AT_ONCE)) / highest
            swing = self.amplitude * np.sin(2 * math.pi / self.period * times)
            yield times[rng.random(AT_ONCE) * (1 + self.amplitude) < 1 + swing]
            now_s = float(times[-1])


PROCESSES: dict[str, type[Process]] = {
    "poisson": Poisson,
    "gamma": Gamma,
    "bursts": Bursts,
    "diurnal": Diurnal,
    "constant": Constant,
}


def parse_process(text: str, rate: float | None = None, what: str = "--arrivals") -> Process:
    """`gamma:rate=5,cv=2`; the rate may stand outside."""
    return spec.parse(what, text, PROCESSES, {} if rate is None else {"rate": rate})


def text_of(process: Process) -> str:
    return spec.text_of(process, PROCESSES)
