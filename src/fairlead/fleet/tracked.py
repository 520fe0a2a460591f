"""A request under way, as the fleet knows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fairlead.model import Event, HandoffWhy, InstanceId, RefuseWhy, Request, RequestId, TokenRow


@dataclass(slots=True)
class Moving:
    """A hand-off under way. The source's attempt counts until the target makes a token."""

    target: InstanceId
    attempt: int
    """As it will be called there."""
    why: HandoffWhy
    begun_s: float
    ahead: list[TokenRow] = field(default_factory=list)
    """Tokens of the target that came before the last ones of the source."""
    later: list[Event] = field(default_factory=list)
    """What the target said after them."""


@dataclass(slots=True)
class Choices:
    """What a call with several choices knows of them."""

    under_way: dict[RequestId, Tracked] = field(default_factory=dict)
    begun: bool = False
    """Something of one of them was delivered."""


class Tracked:
    """Accepted and not yet ended. Only the fleet changes it."""

    __slots__ = (
        "attempt",
        "awaits",
        "choices",
        "deaths",
        "dispatched_s",
        "due_s",
        "first_token_s",
        "instance",
        "issued",
        "line",
        "moves",
        "moving",
        "predicted_e2e_s",
        "predicted_ttft_s",
        "produced",
        "queued_s",
        "rank",
        "ranked_s",
        "refused",
        "request",
        "said",
        "unfit",
    )

    def __init__(self, request: Request, now: float) -> None:
        self.request = request
        self.choices: Choices | None = None
        """All of its call, where that has several."""
        self.instance: InstanceId | None = None
        """Where it is; None while it waits in the fleet's queue."""
        self.attempt = 0
        """The one that counts; what comes from another is void."""
        self.issued = 0
        """Attempts so far, those of hand-offs that came to nothing among them."""
        self.moves = 0
        """Times that a rescheduling policy moved it."""
        self.moving: Moving | None = None
        self.produced: list[int] = []
        """Output tokens that were delivered."""
        self.deaths = 0
        """Instances that died under it."""
        self.refused: dict[InstanceId, None] = {}
        """Instances that refused it since it was last placed."""
        self.unfit: dict[InstanceId, RefuseWhy] = {}
        """Instances that can never serve it, and why."""
        self.said = ""
        """What the engine said that refused it last, or failed at it."""
        self.queued_s = now
        self.due_s = float("inf")
        """When its turn must have come, where the fleet keeps the order."""
        self.awaits: InstanceId | None = None
        """The instance for whose turn it waits in the queue, the best for it at `ranked_s`."""
        self.ranked_s = now
        self.line: tuple[Any, ...] | None = None
        """Where it stands in the fleet's queue, and after whom."""
        self.rank = 0
        self.dispatched_s = now
        self.first_token_s: float | None = None
        self.predicted_ttft_s: float | None = None
        """From arrival to first token, as predicted when it was first dispatched; of some only."""
        self.predicted_e2e_s: float | None = None
        """The same to the last token."""

    @property
    def context_tokens(self) -> int:
        return self.request.prompt_tokens + len(self.produced)

    @property
    def n_produced(self) -> int:
        return len(self.produced)

    @property
    def call_has_begun(self) -> bool:
        """Its client has been given something, of this choice or of another of the same call."""
        return bool(self.produced) or (self.choices is not None and self.choices.begun)

    @property
    def had_turn(self) -> bool:
        """It was sent to an instance once, or a choice of the same call was heard of."""
        return self.attempt > 0 or self.call_has_begun

    @property
    def is_moving(self) -> bool:
        return self.moving is not None

    def __repr__(self) -> str:
        where = self.instance or "queued"
        return (
            f"<{self.request.id}#{self.attempt} {where}"
            f" produced={len(self.produced)}/{self.request.max_tokens}>"
        )
