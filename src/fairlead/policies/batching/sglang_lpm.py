"""Longest prefix match: who finds most of its prompt in the cache enters first. SGLang's order.

Source: sgl-project/sglang, python/sglang/srt/managers/schedule_policy.py (`lpm`).
Paper: SGLang: Efficient Execution of Structured Language Model Programs, 2024.
Rule:  those that wait enter by cached tokens, most first, in arrival order among equals; when more
       than `max_queue` wait, in arrival order alone, for matching all of them takes too long.

The order is SGLang's; admission, victim and budget are those of `fcfs`. SGLang also holds back a
request while another is about to compute the same prefix. Here both may enter at once, for a
prefix is shared within the step that computes it, and so nobody is held back.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from fairlead.model import SequenceView
from fairlead.policies.batching.fcfs import AlwaysAdmit, ArrivalOrder, FixedBudget, LastAdmitted
from fairlead.policies.batching.parts import Batching, BatchView, Key
from fairlead.policies.registry import batching


@dataclass(frozen=True, slots=True)
class Params:
    max_queue: int = 128
    """Past so many that wait, arrival order; at least 0. SGLang's number."""
    step_tokens: int = 2048
    """Token budget of a step, at least 1."""

    def __post_init__(self) -> None:
        if self.max_queue < 0:
            raise ValueError(f"max_queue must be at least 0, got {self.max_queue}")
        if self.step_tokens < 1:
            raise ValueError(f"step_tokens must be at least 1, got {self.step_tokens}")


class LongestPrefixFirst(ArrivalOrder):
    """Asked anew each time: what is cached changes with every step."""

    settled = False

    def __init__(self, max_queue: int) -> None:
        self._max_queue = max_queue

    def waiting_key(self, sequence: SequenceView, view: BatchView, now: float) -> Key:
        arrival = super().waiting_key(sequence, view, now)
        if view.n_waiting > self._max_queue:
            return (0, *arrival)
        return (view.uncached_tokens(sequence) - sequence.n_known, *arrival)


@batching("sglang-lpm", Params)
def sglang_lpm(params: Params, rng: Random) -> Batching:
    return Batching(
        "sglang-lpm",
        LongestPrefixFirst(params.max_queue),
        AlwaysAdmit(),
        LastAdmitted(),
        FixedBudget(params.step_tokens),
    )
