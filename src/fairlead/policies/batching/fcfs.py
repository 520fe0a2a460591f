"""First come, first served, with prefill and decode mixed under one token budget: the vLLM V1 rule.

Source: vllm-project/vllm, vllm/v1/core/sched/scheduler.py.
Paper: Efficient Memory Management for Large Language Model Serving with PagedAttention, 2023.
Rule:  those admitted run in order of admission, each catching up with its known tokens; what is
       left of the budget admits the head of the queue while its next chunk fits; when memory runs
       out the last admitted is preempted, and a step that preempted admits nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from fairlead.model import SequenceView
from fairlead.policies.batching.parts import Batching, BatchView, Key
from fairlead.policies.registry import batching


@dataclass(frozen=True, slots=True)
class Params:
    step_tokens: int = 2048
    """Token budget of a step, at least 1."""
    whole_prompt: bool = True
    """Nobody enters before there is room for its whole prompt, as vLLM has it by default
    (`scheduler_reserve_full_isl`); otherwise room for the first chunk suffices."""

    def __post_init__(self) -> None:
        if self.step_tokens < 1:
            raise ValueError(f"step_tokens must be at least 1, got {self.step_tokens}")


class ArrivalOrder:
    """The default order: as they came. A sequence that has produced tokens (it was preempted, or
    its instance died) goes first, for its client is in the middle of a stream."""

    settled = True
    decodes_first = False

    def waiting_key(self, sequence: SequenceView, view: BatchView, now: float) -> Key:
        return (sequence.n_produced == 0, sequence.queued)

    def running_key(self, sequence: SequenceView, view: BatchView, now: float) -> Key:
        return (sequence.admitted,)


class AlwaysAdmit:
    """The default admission: whoever's first chunk fits."""

    def admit(self, sequence: SequenceView, view: BatchView, now: float) -> bool:
        return True

    def finished(self, sequence: SequenceView) -> None:
        """Lengths do not matter here."""


class LastAdmitted:
    """The default victim: who entered last has the least to lose."""

    def choose(self, running: Sequence[SequenceView], view: BatchView, now: float) -> SequenceView:
        return running[-1]


@dataclass(frozen=True, slots=True)
class FixedBudget:
    """The default budget: the same number of tokens for every step."""

    step_tokens: int

    def tokens(self, view: BatchView, now: float) -> int:
        return self.step_tokens


@batching("fcfs", Params)
def fcfs(params: Params, rng: Random) -> Batching:
    return Batching(
        "fcfs",
        ArrivalOrder(),
        AlwaysAdmit(),
        LastAdmitted(),
        FixedBudget(params.step_tokens),
        whole_prompt=params.whole_prompt,
    )
