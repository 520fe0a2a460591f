"""How long prompts, outputs and pauses are: distributions, drawn from a generator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from fairlead.workload.cells import MOST_TOKENS
from fairlead.workload.columns import Floats, Ints
from fairlead.workload.generate import spec


class Distribution(Protocol):
    """Of tokens or of seconds."""

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        """`n` values, independent of each other."""
        ...


def draw_tokens(distribution: Distribution, rng: np.random.Generator, n: int) -> Ints:
    """`n` lengths in whole tokens, at least one each."""
    return whole_tokens(distribution.draw(rng, n))


def whole_tokens(values: Floats) -> Ints:
    return np.clip(np.rint(values), 1, MOST_TOKENS).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Constant:
    EXAMPLE: ClassVar[str] = "constant:value=512"
    value: float

    def __post_init__(self) -> None:
        if not 0 <= self.value < math.inf:
            raise ValueError(f"value must be a number of at least 0, got {self.value:g}")

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        return np.full(n, self.value)


@dataclass(frozen=True, slots=True)
class Exponential:
    EXAMPLE: ClassVar[str] = "exp:mean=200"
    mean: float
    min: float = 0.0
    max: float = math.inf

    def __post_init__(self) -> None:
        spec.above_0(mean=self.mean)
        _check_bounds(self.min, self.max)

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        return np.clip(rng.exponential(self.mean, n), self.min, self.max)


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Most lengths of real prompts look like this: a bell on a logarithmic axis."""

    EXAMPLE: ClassVar[str] = "lognormal:median=1000,sigma=1"
    median: float
    sigma: float = 1.0
    """Standard deviation of the natural logarithm; at 1 the 90th percentile is 3.6 medians."""
    min: float = 0.0
    max: float = math.inf

    def __post_init__(self) -> None:
        spec.above_0(median=self.median, sigma=self.sigma)
        _check_bounds(self.min, self.max)

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        drawn = rng.lognormal(math.log(self.median), self.sigma, n)
        return np.clip(drawn, self.min, self.max)


@dataclass(frozen=True, slots=True)
class Uniform:
    EXAMPLE: ClassVar[str] = "uniform:min=100,max=2000"
    min: float
    max: float

    def __post_init__(self) -> None:
        _check_bounds(self.min, self.max)
        spec.above_0(max=self.max)

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        return rng.uniform(self.min, self.max, n)


@dataclass(frozen=True, slots=True)
class Power:
    """A power law between two bounds: many short ones, few that are very long."""

    EXAMPLE: ClassVar[str] = "power:alpha=1.5,min=16,max=32768"
    alpha: float
    """The density falls with the length to this power; Zipf's law is 1."""
    min: float
    max: float

    def __post_init__(self) -> None:
        spec.above_0(alpha=self.alpha, min=self.min, max=self.max)
        _check_bounds(self.min, self.max)

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        u, slope = rng.random(n), 1 - self.alpha
        if abs(slope) < 1e-9:
            drawn = self.min * (self.max / self.min) ** u
        else:
            low, high = self.min**slope, self.max**slope
            drawn = (low + u * (high - low)) ** (1 / slope)
        return np.asarray(drawn, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Empirical:
    """Values that were seen, each as often as it was seen."""

    values: NDArray[Any]
    cumulative: Ints
    """How often this value or one before it was seen."""

    @classmethod
    def of(cls, values: NDArray[Any], counts: Ints | None = None) -> Empirical:
        """Of samples, or of values with their counts."""
        if counts is None:
            values, counts = np.unique(values, return_counts=True)
        return cls(values, np.cumsum(counts, dtype=np.int64))

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        places = rng.integers(0, self.cumulative[-1], n)
        drawn = self.values[np.searchsorted(self.cumulative, places, side="right")]
        return np.asarray(drawn, dtype=np.float64)

    @property
    def mean(self) -> float:
        counts = np.diff(self.cumulative, prepend=0)
        return float((self.values * counts).sum() / self.cumulative[-1])


DISTRIBUTIONS: Mapping[str, type[Distribution]] = {
    "lognormal": Lognormal,
    "exp": Exponential,
    "power": Power,
    "uniform": Uniform,
    "constant": Constant,
}


def parse_distribution(what: str, text: str) -> Distribution:
    """`lognormal:median=1000,sigma=1`; a number alone is a constant."""
    with suppress(ValueError):
        text = f"constant:value={float(text)!r}"
    return spec.parse(what, text, DISTRIBUTIONS)


def text_of(distribution: Distribution) -> str:
    if isinstance(distribution, Empirical):
        return "empirical"
    return spec.text_of(distribution, DISTRIBUTIONS)


def _check_bounds(low: float, high: float) -> None:
    if not 0 <= low <= high:
        raise ValueError(f"min and max must be 0 <= min <= max, got {low:g} and {high:g}")
