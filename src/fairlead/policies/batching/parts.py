"""The four questions of a batching policy, and their composition.

Most published schedulers answer one of the four in their own way and leave the others at their
defaults. They are asked on events (arrival, completion, memory pressure, their own horizon), not
on every token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fairlead.latency.model import LatencyModel
from fairlead.model import SequenceView

Key = tuple[Any, ...]


class BatchView(Protocol):
    """An instance from within, while it plans."""

    @property
    def running(self) -> Sequence[SequenceView]:
        """Admitted sequences, in order of admission."""
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
    @property
    def latency(self) -> LatencyModel: ...
    @property
    def slowdown(self) -> float:
        """Measured over predicted step time, lately."""
        ...


class Order(Protocol):
    """Who goes first. Smaller keys do."""

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
