"""Prefill first: prompts run whole, in steps of their own, while decodes wait.

Source: vllm-project/vllm, its first scheduler; the baseline of Sarathi-Serve.
Paper: Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve, 2024.
Rule:  while the prompt at the head of the queue fits into memory beside a watermark, the next step
       computes prompts and nothing else; only a step without any lets the running sequences
       decode. First tokens come soon, and every burst of prompts stalls all streams.

A prompt longer than a step goes on in the next one, which again is its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from fairlead.policies.batching.fcfs import ArrivalOrder, FixedBudget, LastAdmitted
from fairlead.policies.batching.parts import Batching
from fairlead.policies.batching.sarathi import WholePromptFits
from fairlead.policies.registry import batching


@dataclass(frozen=True, slots=True)
class Params:
    step_tokens: int = 8192
    """Prompt tokens of a step, at least 1: room for the longest prompt, or for several."""
    watermark: float = 0.01
    """Fraction of all blocks that an admission leaves free, 0 to 1."""

    def __post_init__(self) -> None:
        if self.step_tokens < 1:
            raise ValueError(f"step_tokens must be at least 1, got {self.step_tokens}")
        if not 0 <= self.watermark < 1:
            raise ValueError(f"watermark must be at least 0 and below 1, got {self.watermark}")


@batching("prefill-first", Params)
def prefill_first(params: Params, rng: Random) -> Batching:
    return Batching(
        "prefill-first",
        ArrivalOrder(),
        WholePromptFits(params.watermark),
        LastAdmitted(),
        FixedBudget(params.step_tokens),
        prefill_alone=True,
    )
