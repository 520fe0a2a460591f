"""Closed forms for the duration of a step.

`ThirteenCoefficients` describes a measured GPU within a few per cent, mixed steps included.
`Linear` is the simplest model that still has every term a policy reasons about; it serves engines
measured at start, and tests written by hand.

A coefficient of the same name means the same in both. Everything is in seconds; what a number is
per (token, pair, sequence) stands in its name. Both forms are pure, and never fall when a field of
the shape grows.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields

from fairlead.latency.price import Price
from fairlead.model import ConfigError, StepShape
from fairlead.model.step import iterations_within, series_s

MAX_PREFILL_TOKENS = 1 << 20
"""What `prefill_within` answers at most, so that unlimited time has an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A step costs a constant, and a fixed price per token, decode, context token and pair.

    t = base + gemm T + decode B + context C + pair A
    """

    base_s: float = 0.0
    gemm_s_per_token: float = 0.0
    """For every token computed in the step, of decodes and prefill chunks alike."""
    decode_s_per_sequence: float = 0.0
    decode_s_per_context_token: float = 0.0
    prefill_s_per_pair: float = 0.0

    def __post_init__(self) -> None:
        _check(self)

    def coefficients(self) -> dict[str, float]:
        """The flat mapping from which `from_coefficients` builds an equal model."""
        return _public_fields(self)

    def step_s(self, shape: StepShape) -> float:
        return self._price_s(
            shape.decodes, shape.decode_context, shape.prefill_tokens, shape.prefill_pairs
        )

    def _price_s(
        self, decodes: int, decode_context: int, prefill_tokens: int, pairs: float
    ) -> float:
        return (
            self.base_s
            + self.gemm_s_per_token * (decodes + prefill_tokens)
            + self.decode_s_per_sequence * decodes
            + self.decode_s_per_context_token * decode_context
            + self.prefill_s_per_pair * pairs
        )

    def growth_s(self, shape: StepShape) -> float:
        return self.decode_s_per_context_token * shape.decodes

    def run_s(self, shape: StepShape, n: int) -> float:
        return series_s(_decode_only(self.step_s(shape), shape), self.growth_s(shape), n)

    def iterations_within(self, shape: StepShape, seconds: float) -> int:
        first_s = _decode_only(self.step_s(shape), shape)
        return iterations_within(first_s, self.growth_s(shape), seconds)

    def prefill_within(self, shape: StepShape, seconds: float, start: int) -> int:
        def cost_s(n: int) -> float:
            pairs = shape.prefill_pairs + n * (start + n / 2)
            return self._price_s(
                shape.decodes, shape.decode_context, shape.prefill_tokens + n, pairs
            )

        return most_prefill_tokens(cost_s, self.gemm_s_per_token, seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThirteenCoefficients:
    """A step costs its host work, its matrices, its sampling and its attention.

    t = host + base + (weights^p + (gemm T)^p)^(1/p) + sample Q + attention
    attention = decode_base + decode B + context C                              without a prefill
              = prefill_base + max(walk L, context' C + pair A + decode' B)     with one

    The p-norm is the roofline with its corner rounded: reading the weights against computing on
    them. With a prefill in the step, attention takes as long as its critical path: either one
    sequence's KV walked serially, or the work of all. The attention of a step with a prefill is
    never priced below that of its decodes alone, which keeps the form monotone where the branch
    changes. Thirteen numbers are fitted to kernels; `host_s` is measured on a whole engine.
    """

    weights_s: float
    """Matrices of a tiny step: the time to read the weights (w)."""
    gemm_s_per_token: float
    """Matrices of a huge step, for each of its tokens (g)."""
    sharpness: float
    """The norm's p: 1 adds the two times above, a large one takes the greater."""
    base_s: float = 0.0
    """Any step, on the GPU (c0)."""
    host_s: float = 0.0
    """Any step: scheduling, launching, sampling and small kernels that no kernel table holds."""
    sample_s_per_sequence: float = 0.0
    """For each sequence from which a token is drawn (h)."""
    decode_base_s: float = 0.0
    """Attention of a step without prefill (a0)."""
    decode_s_per_sequence: float = 0.0
    """The same, for each decode (a1)."""
    decode_s_per_context_token: float
    """The same, for each token of context read (a2)."""
    prefill_base_s: float = 0.0
    """Attention of a step with a prefill (k0)."""
    walk_s_per_context_token: float = 0.0
    """The same, for each token of the longest context in the step (s)."""
    prefill_s_per_context_token: float = math.nan
    """The same, for each token of context the decodes read (c1). Not a number where no mixed step
    was measured; then a context token costs what it costs without a prefill."""
    prefill_s_per_pair: float
    """The same, for each query-key pair of the chunks (c2)."""
    prefill_s_per_sequence: float = math.nan
    """The same, for each decode (c3). Not a number as above."""
    price: Price = field(init=False, repr=False, compare=False)
    """The arithmetic of it, for whoever asks a thousand times for each decision."""

    def __post_init__(self) -> None:
        self._fill("prefill_s_per_context_token", self.decode_s_per_context_token)
        self._fill("prefill_s_per_sequence", self.decode_s_per_sequence)
        _check(self)
        object.__setattr__(self, "price", Price(**self.coefficients()))

    def _fill(self, name: str, unmeasured: float) -> None:
        if math.isnan(getattr(self, name)):
            object.__setattr__(self, name, unmeasured)

    def coefficients(self) -> dict[str, float]:
        """The flat mapping from which `from_coefficients` builds an equal model."""
        return _public_fields(self)

    def step_s(self, shape: StepShape) -> float:
        return self.price.step_s(
            shape.decodes,
            shape.decode_context,
            shape.prefill_tokens,
            shape.prefill_pairs,
            shape.longest,
            shape.sampled,
        )

    def growth_s(self, shape: StepShape) -> float:
        return self.decode_s_per_context_token * shape.decodes

    def run_s(self, shape: StepShape, n: int) -> float:
        return series_s(_decode_only(self.step_s(shape), shape), self.growth_s(shape), n)

    def iterations_within(self, shape: StepShape, seconds: float) -> int:
        first_s = _decode_only(self.step_s(shape), shape)
        return iterations_within(first_s, self.growth_s(shape), seconds)

    def prefill_within(self, shape: StepShape, seconds: float, start: int) -> int:
        return self.price.prefill_within(
            shape.decodes,
            shape.decode_context,
            shape.prefill_tokens,
            shape.prefill_pairs,
            shape.longest,
            shape.sampled,
            start,
            seconds,
            _prefill_at_most(self.gemm_s_per_token, seconds),
        )


Form = Linear | ThirteenCoefficients
"""Every closed form there is; each of them is a `LatencyModel`."""


def _decode_only(first_s: float, shape: StepShape) -> float:
    assert not shape.prefill_tokens, f"only decode-only steps repeat, got {shape}"
    return first_s


def with_chunk(shape: StepShape, n: int, start: int) -> StepShape:
    """The shape with one more chunk, of `n` prefill tokens after `start`, that samples a token."""
    return StepShape(
        shape.decodes,
        shape.decode_context,
        shape.prefill_tokens + n,
        shape.prefill_pairs + n * (start + n / 2),
        max(shape.longest, start + n),
        shape.sampled + 1,
    )


def most_prefill_tokens(cost_s: Callable[[int], float], s_per_token: float, seconds: float) -> int:
    """Most tokens `n` with `cost_s(n) <= seconds`; `cost_s` grows, by `s_per_token` or more."""
    at_most = _prefill_at_most(s_per_token, seconds)
    return bisect_right(range(1, at_most + 1), seconds, key=cost_s)


def _prefill_at_most(s_per_token: float, seconds: float) -> int:
    """More tokens do not fit into `seconds` in any case."""
    at_most = float(MAX_PREFILL_TOKENS)
    if s_per_token > 0.0:
        at_most = min(at_most, seconds / s_per_token + 1)
    return int(at_most)


def value_problems(values: Mapping[str, float]) -> list[str]:
    """What is wrong with single coefficients, each as a short sentence; knows both forms."""
    problems = [
        f"{name} is {value:g}, must be a finite number, 0 or more"
        for name, value in values.items()
        if not (math.isfinite(value) and value >= 0)
    ]
    if 0 <= values.get("sharpness", 1.0) < 1:
        problems.append(f"sharpness is {values['sharpness']:g}, must be 1 or more")
    return problems


_MAKE_A_STEP_LAST = ("base_s", "host_s", "weights_s", "gemm_s_per_token", "decode_s_per_sequence")


def _check(form: Form) -> None:
    values = form.coefficients()
    problems = value_problems(values)
    # Otherwise any number of iterations would fit into no time, and a simulation never end.
    if not problems and not any(values.get(name) for name in _MAKE_A_STEP_LAST):
        names = ", ".join(name for name in _MAKE_A_STEP_LAST if name in values)
        problems.append(f"a step would take no time; one of {names} must be above 0")
    if problems:
        raise ConfigError(f"latency coefficients: {'; '.join(problems)}")


def _public_fields(form: Form) -> dict[str, float]:
    return {f.name: float(getattr(form, f.name)) for f in fields(form) if f.init}
