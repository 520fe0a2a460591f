"""semi-PD: prompts and decodes run at the same time on one GPU, each on its share of it.

Paper: Hong et al., "semi-PD: Towards Efficient LLM Serving via Phase-Wise Disaggregated
       Computation and Unified Storage", 2025.
Rule:  t = max(prompts on their share, decodes on theirs). Arithmetic takes 1 / share as long;
       reading memory takes as long as ever, but for what the two phases contend.

The paper runs two loops, one a phase; an instance has one. A step whose chunk takes as long as the
decodes beside it is what the two loops do in that time; in a step with a longer chunk the decodes
wait for it, which they would not there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from fairlead.latency.forms import Form, ThirteenCoefficients, most_prefill_tokens, with_chunk
from fairlead.model import ConfigError, StepShape

_COMPUTE = ("gemm_s_per_token", "prefill_s_per_pair")
_MEMORY = ("weights_s", "decode_s_per_sequence", "decode_s_per_context_token")


@dataclass(frozen=True, slots=True, kw_only=True)
class SemiPd:
    """A `LatencyModel` in which the phases of `form` share a GPU's multiprocessors.

    A phase has its share, whether the other one runs or not. Shares that sum to more than 1 count
    in proportion while both run.
    """

    form: Form
    prefill_share: float = 0.8
    """Of the multiprocessors, those that compute prompts: above 0, at most 1."""
    decode_share: float = 1.0
    """Those that decode. The published code has 0.8 and 1 by default."""
    contention: float = 1.1
    """So many times longer memory takes to read while both phases do. Ours: the paper gives
    none."""
    saturating_share: float = 0.4
    """So many multiprocessors read memory as fast as all; fewer do so in proportion. Ours."""
    _prefill: Form = field(init=False, repr=False, compare=False)
    _decode: Form = field(init=False, repr=False, compare=False)
    _prefill_beside: Form = field(init=False, repr=False, compare=False)
    _decode_beside: Form = field(init=False, repr=False, compare=False)
    _sample_s: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {getattr(self, name):g}, must be above 0 and at most 1"
            for name in ("prefill_share", "decode_share", "saturating_share")
            if not 0 < getattr(self, name) <= 1
        ]
        if not (math.isfinite(self.contention) and self.contention >= 1):
            problems.append(f"contention is {self.contention:g}, must be 1 or more")
        if problems:
            raise ConfigError(f"effect semi-pd: {'; '.join(problems)}")
        both = max(self.prefill_share + self.decode_share, 1.0)
        for phase, share in (("_prefill", self.prefill_share), ("_decode", self.decode_share)):
            object.__setattr__(self, phase, self._on(share, 1.0))
            object.__setattr__(self, f"{phase}_beside", self._on(share / both, self.contention))
        sampled = isinstance(self.form, ThirteenCoefficients)
        sample_s = self.form.coefficients()["sample_s_per_sequence"] if sampled else 0.0
        object.__setattr__(self, "_sample_s", sample_s)

    def _on(self, share: float, contention: float) -> Form:
        """The form of a GPU with so many of the multiprocessors."""
        slower = contention / min(share / self.saturating_share, 1.0)
        old = self.form.coefficients()
        new = {name: old[name] / share for name in _COMPUTE}
        new |= {name: old[name] * slower for name in _MEMORY if name in old}
        return type(self.form)(**{**old, **new})

    def step_s(self, shape: StepShape) -> float:
        if not shape.prefill_tokens:
            if not shape.decodes:  # Neither phase has anything to do: no longer than either alone.
                return min(self._prefill.step_s(shape), self._decode.step_s(shape))
            return self._decode.step_s(shape)
        if not shape.decodes:
            return self._prefill.step_s(shape)
        prompts = StepShape(0, 0, shape.prefill_tokens, shape.prefill_pairs, shape.longest, 0)
        decodes = StepShape(shape.decodes, shape.decode_context, 0, 0.0, 0, 0)
        both_s = max(self._prefill_beside.step_s(prompts), self._decode_beside.step_s(decodes))
        return both_s + self._sample_s * shape.sampled

    def growth_s(self, shape: StepShape) -> float:
        return self._decode.growth_s(shape)

    def run_s(self, shape: StepShape, n: int) -> float:
        return self._decode.run_s(shape, n)

    def iterations_within(self, shape: StepShape, seconds: float) -> int:
        return self._decode.iterations_within(shape, seconds)

    def prefill_within(self, shape: StepShape, seconds: float, start: int) -> int:
        return most_prefill_tokens(
            lambda n: self.step_s(with_chunk(shape, n, start)),
            self._prefill.gemm_s_per_token,
            seconds,
        )
