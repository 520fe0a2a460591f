"""NanoFlow: a step with prompts takes as long as its slowest kind of work, not as all of them.

Paper: Zhu et al., "NanoFlow: Towards Optimal Large Language Model Serving Throughput", 2024.
Rule:  t = overhead + max(compute, memory, network) * (1 + interference), where that is less than
       their sum; a batch below `dense_tokens` computes as long as a full one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from fairlead.latency.forms import Form, Linear, most_prefill_tokens, with_chunk
from fairlead.latency.price import p_norm
from fairlead.model import ConfigError, StepShape


class _Parts(NamedTuple):
    """A step's time by what it waits for; not all of it has to."""

    overhead_s: float
    matrices_s: float
    prompts_s: float
    """Attention of the prompts: arithmetic."""
    memory_s: float
    """Attention of the decodes, and the weights: both read memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nanoflow:
    """A `LatencyModel` that overlaps the parts of `form` in steps with prompts.

    Steps without prompts cost what they cost without it: alone, a decode's parts all wait for
    memory. A step with prompts never costs less than its decodes would by themselves.
    """

    form: Form
    interference: float = 0.13
    """By how much the slowest part gets longer: the paper measures that running in nano-batches
    costs 13 %."""
    dense_tokens: float = 2048
    """The batch that the engine is laid out for, the paper's: smaller ones lose by it."""
    network_fraction: float = 0.0
    """Of the matrices' time, the part in which GPUs wait for each other; 0 on one GPU."""

    def __post_init__(self) -> None:
        problems = []
        if not (math.isfinite(self.interference) and self.interference >= 0):
            problems.append(f"interference is {self.interference:g}, must be 0 or more")
        if not (math.isfinite(self.dense_tokens) and self.dense_tokens >= 1):
            problems.append(f"dense_tokens is {self.dense_tokens:g}, must be at least 1")
        if not 0 <= self.network_fraction < 1:
            problems.append(f"network_fraction is {self.network_fraction:g}, must be in [0, 1)")
        if problems:
            raise ConfigError(f"effect nanoflow: {'; '.join(problems)}")

    def step_s(self, shape: StepShape) -> float:
        one_by_one_s = self.form.step_s(shape)
        if not shape.prefill_tokens:
            return one_by_one_s
        decodes = StepShape(shape.decodes, shape.decode_context, 0, 0.0, 0, shape.sampled)
        return max(self.form.step_s(decodes), min(one_by_one_s, self._overlapped_s(shape)))

    def _overlapped_s(self, shape: StepShape) -> float:
        overhead_s, matrices_s, prompts_s, memory_s = self._parts(shape)
        compute_s = (1.0 - self.network_fraction) * matrices_s + prompts_s
        network_s = self.network_fraction * matrices_s
        return overhead_s + max(compute_s, memory_s, network_s) * (1.0 + self.interference)

    def _parts(self, shape: StepShape) -> _Parts:
        form = self.form
        tokens = max(shape.decodes + shape.prefill_tokens, self.dense_tokens)
        gemm_s = form.gemm_s_per_token * tokens
        pairs_s = form.prefill_s_per_pair * shape.prefill_pairs
        decodes_s = (
            form.decode_s_per_sequence * shape.decodes
            + form.decode_s_per_context_token * shape.decode_context
        )
        if isinstance(form, Linear):
            return _Parts(form.base_s, gemm_s, pairs_s, decodes_s)
        walk_s = form.walk_s_per_context_token * shape.longest
        return _Parts(
            form.host_s + form.base_s + form.sample_s_per_sequence * shape.sampled,
            p_norm(form.weights_s, gemm_s, form.sharpness),
            form.prefill_base_s + max(walk_s, pairs_s),
            form.weights_s + form.decode_base_s + decodes_s,
        )

    def growth_s(self, shape: StepShape) -> float:
        return self.form.growth_s(shape)

    def run_s(self, shape: StepShape, n: int) -> float:
        return self.form.run_s(shape, n)

    def iterations_within(self, shape: StepShape, seconds: float) -> int:
        return self.form.iterations_within(shape, seconds)

    def prefill_within(self, shape: StepShape, seconds: float, start: int) -> int:
        # What the matrices take, the network left out, is in every price.
        least_s = self.form.gemm_s_per_token * (1.0 - self.network_fraction)
        return most_prefill_tokens(
            lambda n: self.step_s(with_chunk(shape, n, start)), least_s, seconds
        )
