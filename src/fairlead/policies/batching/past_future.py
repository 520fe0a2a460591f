"""Past-Future: admit as many as memory will hold at its future worst moment.

Paper: Past-Future Scheduler for LLM Serving under SLA Guarantees, 2025.
Source: ModelTC/lightllm.
Rule:  draw every sequence's output length from the lengths that lately finished (for a running
       one, from those longer than what it has produced); admit the head of the queue while the
       peak of the batch's future memory, the worst of a few draws, fits beside a reserve.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np

from fairlead.memory import worst_future_peak
from fairlead.model import SequenceView
from fairlead.policies.batching.fcfs import ArrivalOrder, FixedBudget, LastAdmitted
from fairlead.policies.batching.lengths import FinishedLengths
from fairlead.policies.batching.parts import Batching, BatchView
from fairlead.policies.registry import batching


@dataclass(frozen=True, slots=True)
class Params:
    window: int = 200
    """Finished lengths remembered."""
    initial_tokens: int = 1024
    """Length that fills half of the window before anything has finished. Guards the start, when
    only short requests have finished yet; the published code's value was not to be seen."""
    reserve: float = 0.05
    """Fraction of memory kept out of the promise, 0 to 1."""
    step_tokens: int = 2048
    """Token budget of a step."""

    def __post_init__(self) -> None:
        for name in ("window", "initial_tokens", "step_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.reserve < 1:
            raise ValueError(f"reserve must be at least 0 and below 1, got {self.reserve}")


class PastFutureAdmission:
    """Remembers finished lengths and asks whether the future peak fits."""

    def __init__(self, params: Params, rng: Random) -> None:
        self._reserve = params.reserve
        self.lengths = FinishedLengths(params.window, params.initial_tokens, rng)

    def finished(self, sequence: SequenceView) -> None:
        self.lengths.add(sequence.n_produced)

    def admit(self, sequence: SequenceView, view: BatchView, now: float) -> bool:
        if not view.n_running:
            return True  # Alone it fits: the instance would have refused it otherwise.
        # A large batch averages by itself; a small one needs the worst of several draws. They are
        # drawn though nobody may look at them, so that what is drawn later does not hang on it.
        n = view.n_running + 1
        futures = self.lengths.draw(min(5, 200 // n + 1), n)
        room = view.n_blocks * view.block_tokens * (1 - self._reserve)
        if view.most_tokens + sequence.prompt_tokens + sequence.max_tokens <= room:
            return True
        batch = [*view.running, sequence]
        held = np.array([one.n_known for one in batch], np.int64)
        produced = held - np.array([one.prompt_tokens for one in batch], np.int64)
        most = np.array([one.max_tokens for one in batch], np.int64)
        # Where all that may come fits at once, nobody needs to know who ends when.
        if int(held.sum()) + futures.at_most(produced, most) <= room:
            return True
        return worst_future_peak(held, futures.remaining(produced, most)) <= room


@batching("past-future", Params)
def past_future(params: Params, rng: Random) -> Batching:
    return Batching(
        "past-future",
        ArrivalOrder(),
        PastFutureAdmission(params, rng),
        LastAdmitted(),
        FixedBudget(params.step_tokens),
    )
