"""Aggressive: only what is held now counts, beside a watermark.

Source: vllm-project/vllm, the block manager of its first scheduler; the aggressive baseline of
        `past-future`.
Paper: Past-Future Scheduler for LLM Serving under SLA Guarantees, 2025.
Rule:  the head of the queue enters while its prompt fits into what is free now less a `watermark`;
       what the batch will grow to is not asked. Memory is full, and sequences are preempted.
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
    watermark: float = 0.01
    """Fraction of all blocks that an admission leaves free, 0 to 1. vLLM's number."""
    step_tokens: int = 2048
    """Token budget of a step, at least 1."""

    def __post_init__(self) -> None:
        if not 0 <= self.watermark < 1:
            raise ValueError(f"watermark must be at least 0 and below 1, got {self.watermark}")
        if self.step_tokens < 1:
            raise ValueError(f"step_tokens must be at least 1, got {self.step_tokens}")


@batching("aggressive", Params)
def aggressive(params: Params, rng: Random) -> Batching:
    return Batching(
        "aggressive",
        ArrivalOrder(),
        WholePromptFits(params.watermark),
        LastAdmitted(),
        FixedBudget(params.step_tokens),
    )
