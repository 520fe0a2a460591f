"""The four questions of a batching policy, and their composition.

Most published schedulers answer one of the four in their own way and leave the others at their
defaults. They are asked on events (arrival, completion, memory pressure, their own horizon), not
on every token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fairlead.latency.model import LatencyModel
from fairlead.model import RequestId, SequenceView

Key = tuple[Any, ...]


class BatchView(Protocol):
    """An instance from within, while it plans."""

    @property
    def running(self) -> Sequence[SequenceView]:
        """Admitted sequences, in order of admission."""
        ...

    @property
    def n_running(self) -> int: ...
    @property
    def prefilling(self) -> Sequence[SequenceView]:
        """Admitted sequences that do not decode in step with the others yet: those with prompt
        tokens left to compute, mostly."""
        ...

    @property
    def n_decoding(self) -> int:
        """All other admitted sequences: each has one token left to compute."""
        ...

    @property
    def decode_context(self) -> int:
        """Tokens that a decode step of those would read, summed."""
        ...

    @property
    def decode_deadlines(self) -> Sequence[SequenceView]:
        """Of those, who has a deadline, and no pace to keep until then."""
        ...

    def next_due_s(self, now: float) -> float:
        """When the next of those must have a token to keep its promised pace, left out those that
        are late; infinity where nobody must."""
        ...

    @property
    def most_tokens(self) -> int:
        """Tokens that those admitted would have in all if each reached its `max_tokens`."""
        ...

    @property
    def tightest_pace_s(self) -> float | None:
        """The least time per token that anybody admitted was promised; None where nobody was."""
        ...

    @property
    def n_waiting(self) -> int: ...
    @property
    def n_blocks(self) -> int: ...
    @property
    def available_blocks(self) -> int:
        """Blocks that could be handed out now, cached prefixes evicted if need be."""
        ...

    @property
    def block_tokens(self) -> int: ...
    def uncached_tokens(self, sequence: Any) -> int:
        """Tokens a waiting sequence would have to compute if it entered now."""
        ...

    @property
    def latency(self) -> LatencyModel: ...
    @property
    def slowdown(self) -> float:
        """Measured over predicted step time, lately."""
        ...


class Order(Protocol):
    """Who goes first. Smaller keys do."""

    @property
    def settled(self) -> bool:
        """True where the key of one that waits stays what it was when it got in line, so that
        nobody needs to be asked twice."""
        ...

    @property
    def decodes_first(self) -> bool:
        """True where every running sequence with one token left to compute goes before all that
        have more."""
        ...

    def waiting_key(self, sequence: SequenceView, view: BatchView, now: float) -> Key:
        """Among those that wait for admission."""
        ...

    def running_key(self, sequence: SequenceView, view: BatchView, now: float) -> Key:
        """Among those admitted, for a share of this step."""
        ...


class Admission(Protocol):
    """May this one enter, given memory now and at its future peak?"""

    def admit(self, sequence: SequenceView, view: BatchView, now: float) -> bool:
        """Asked in waiting order; the first refusal ends the admissions of this step. That the
        first chunk fits is checked by the instance in any case."""
        ...

    def finished(self, sequence: SequenceView) -> None:
        """A sequence ended by itself: its length is known now."""
        ...


class Victim(Protocol):
    """Whom to preempt when memory runs out."""

    def choose(self, running: Sequence[SequenceView], view: BatchView, now: float) -> SequenceView:
        """One of `running`, which is in order of admission and never empty."""
        ...


class Budget(Protocol):
    """How much work goes into this step."""

    def tokens(self, view: BatchView, now: float) -> int:
        """Most tokens of this step, decodes included; at least 1."""
        ...


class Oracle:
    """What nobody can know: how long the answers of requests under way will be. A simulator fills
    it in; a live worker refuses a policy that asks for one."""

    def __init__(self) -> None:
        self.lengths: Mapping[RequestId, int] = {}


@dataclass(frozen=True, slots=True)
class Batching:
    """A batching policy: what an instance asks when it plans a step."""

    name: str
    order: Order
    admission: Admission
    victim: Victim
    budget: Budget
    urgent_first: bool = False
    """Its order is by due time; see `InstanceSpec.urgent_first`."""
    horizon_s: float | None = None
    """Ask again after this long even if nothing happens; None where time alone changes nothing."""
    whole_prompt: bool = False
    """Nobody enters before there is room for all it knows; otherwise its first chunk's suffices."""
    prefill_alone: bool = False
    """Prompts run in steps of their own, for which those who decode wait."""
    oracle: Oracle | None = None
    """Set by policies named `oracle-…` alone."""
