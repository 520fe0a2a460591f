"""Conservative: memory is reserved for the longest answer that a request may have.

Source: ModelTC/lightllm; the conservative baseline of `past-future`.
Paper: Past-Future Scheduler for LLM Serving under SLA Guarantees, 2025.
Rule:  the head of the queue enters while all would fit even if everybody produced its
       `max_tokens`. Nobody is ever preempted, and most of the memory lies idle.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from fairlead.memory import future_peak
from fairlead.model import SequenceView
from fairlead.policies.batching.fcfs import ArrivalOrder, FixedBudget, LastAdmitted
from fairlead.policies.batching.parts import Batching, BatchView
from fairlead.policies.registry import batching


@dataclass(frozen=True, slots=True)
class Params:
    step_tokens: int = 2048
    """Token budget of a step, at least 1."""

    def __post_init__(self) -> None:
        if self.step_tokens < 1:
            raise ValueError(f"step_tokens must be at least 1, got {self.step_tokens}")


class LongestAnswersFit:
    """Each sequence may leave all but one token of its last block empty."""

    def admit(self, sequence: SequenceView, view: BatchView, now: float) -> bool:
        if not view.n_running:
            return True  # Alone it fits: the instance would have refused it otherwise.
        empty = view.block_tokens - 1
        peak = future_peak(
            (one.n_known + empty, one.max_tokens - one.n_produced)
            for one in (*view.running, sequence)
        )
        return peak <= view.n_blocks * view.block_tokens

    def finished(self, sequence: SequenceView) -> None:
        """Lengths do not matter here."""


@batching("conservative", Params)
def conservative(params: Params, rng: Random) -> Batching:
    return Batching(
        "conservative",
        ArrivalOrder(),
        LongestAnswersFit(),
        LastAdmitted(),
        FixedBudget(params.step_tokens),
    )
