"""Stall-free batching: decodes first, then prefills in chunks that fill a small, constant step.

Paper: Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve, 2024.
Source: microsoft/sarathi-serve.
Rule:  one step holds at most `chunk_tokens`: every decode, then unfinished prefills, then the head
       of the queue, which enters only if the whole of its prompt fits beside a watermark.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from fairlead.model import SequenceView
from fairlead.policies.batching.fcfs import ArrivalOrder, FixedBudget, LastAdmitted
from fairlead.policies.batching.parts import Batching, BatchView, Key
from fairlead.policies.registry import batching


@dataclass(frozen=True, slots=True)
class Params:
    chunk_tokens: int = 512
    """Tokens of a step, at least 1. Choose the largest whose step keeps the tightest `tpot`."""
    watermark: float = 0.01
    """Fraction of all blocks that an admission leaves free, 0 to 1."""

    def __post_init__(self) -> None:
        if self.chunk_tokens < 1:
            raise ValueError(f"chunk_tokens must be at least 1, got {self.chunk_tokens}")
        if not 0 <= self.watermark < 1:
            raise ValueError(f"watermark must be at least 0 and below 1, got {self.watermark}")


class DecodesFirst(ArrivalOrder):
    decodes_first = True

    def running_key(self, sequence: SequenceView, view: BatchView, now: float) -> Key:
        return (sequence.n_known - sequence.n_computed > 1, sequence.admitted)


def prompt_blocks_owed(view: BatchView) -> int:
    """Blocks that admitted sequences still need for tokens they already know."""
    width = view.block_tokens
    return sum(
        max(-(-sequence.n_known // width) - sequence.held_blocks, 0) for sequence in view.prefilling
    )


@dataclass(frozen=True, slots=True)
class WholePromptFits:
    """Reserves the blocks of all known tokens, for the newcomer and for those already admitted."""

    watermark: float

    def admit(self, sequence: SequenceView, view: BatchView, now: float) -> bool:
        needed = -(-sequence.n_known // view.block_tokens) + prompt_blocks_owed(view)
        # The watermark guards those who run; nobody needs it on an empty instance.
        spared = int(self.watermark * view.n_blocks) if view.n_running else 0
        return needed + spared <= view.available_blocks

    def finished(self, sequence: SequenceView) -> None:
        """Lengths do not matter here."""


@batching("sarathi", Params)
def sarathi(params: Params, rng: Random) -> Batching:
    return Batching(
        "sarathi",
        DecodesFirst(),
        WholePromptFits(params.watermark),
        LastAdmitted(),
        FixedBudget(params.chunk_tokens),
    )
