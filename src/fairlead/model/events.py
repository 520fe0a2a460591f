"""Facts that reach the fleet. Every one is handed over with the time at which it became known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from fairlead.model.ids import InstanceId, RequestId
from fairlead.model.instance import InstanceSpec, Report
from fairlead.model.request import FinishReason, Request


class CancelWhy(Enum):
    CLIENT_LEFT = "client-left"
    CLIENT_SLOW = "client-slow"
    SUPERSEDED = "superseded"
    """The fleet holds a newer attempt of the same request, or none at all."""


class RefuseWhy(Enum):
    """Why an instance would not take a sequence."""

    QUEUE_FULL = "queue-full"
    TOO_LONG = "too-long"
    """It could never fit into this instance's context or KV memory."""
    DRAINING = "draining"


class TokenRow(Protocol):
    """New tokens of one sequence. Drivers bring their own rows, which may carry text as well."""

    @property
    def request(self) -> RequestId: ...
    @property
    def attempt(self) -> int: ...
    @property
    def start(self) -> int:
        """Position of the first new token among the request's output tokens."""
        ...

    @property
    def token_ids(self) -> Sequence[int]: ...


@dataclass(frozen=True, slots=True)
class Produced:
    """A `TokenRow` and nothing more."""

    request: RequestId
    attempt: int
    start: int
    token_ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class Arrived:
    request: Request


@dataclass(frozen=True, slots=True)
class Cancelled:
    request: RequestId
    why: CancelWhy = CancelWhy.CLIENT_LEFT


@dataclass(frozen=True, slots=True)
class Tokens:
    """What one step of one instance brought."""

    instance: InstanceId
    rows: Sequence[TokenRow]


@dataclass(frozen=True, slots=True)
class Finished:
    instance: InstanceId
    request: RequestId
    attempt: int
    reason: FinishReason
    cached_tokens: int = 0
    """Prompt tokens that were not computed because their prefix was cached."""
    n_produced: int | None = None
    """Output tokens in all; None where tokens and this word travel in one frame, so that neither
    can be lost without the other."""


@dataclass(frozen=True, slots=True)
class Refused:
    instance: InstanceId
    request: RequestId
    attempt: int
    why: RefuseWhy


@dataclass(frozen=True, slots=True)
class Preempted:
    """A sequence lost its KV to make room, and waits to be computed again."""

    instance: InstanceId
    request: RequestId
    attempt: int


@dataclass(frozen=True, slots=True)
class Reported:
    report: Report


@dataclass(frozen=True, slots=True)
class InstanceUp:
    spec: InstanceSpec


@dataclass(frozen=True, slots=True)
class InstanceDown:
    instance: InstanceId
    why: str = ""


@dataclass(frozen=True, slots=True)
class Draining:
    """The fleet is about to stop: nothing new enters, what is inside ends in peace."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed. Whoever drives the fleet sends one every second or so."""


InstanceEvent = Tokens | Finished | Preempted
"""What committing a step can bring."""

Event = (
    Arrived
    | Cancelled
    | Tokens
    | Finished
    | Refused
    | Preempted
    | Reported
    | InstanceUp
    | InstanceDown
    | Draining
    | Tick
)
