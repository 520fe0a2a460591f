"""Facts that reach the fleet. Every one is handed over with the time at which it became known."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Protocol

from msgspec import Struct

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
    UNSUPPORTED = "unsupported"
    """The engine cannot do what the request asks for."""
    CANNOT_GO_ON = "cannot-go-on"
    """The engine cannot go on with an answer that was begun elsewhere."""
    FAILED = "failed"
    """The engine took it, and failed at it: its stream broke off or stood still."""


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


class Produced(Struct, frozen=True, gc=False):
    """A `TokenRow` and nothing more."""

    request: RequestId
    attempt: int
    start: int
    token_ids: Sequence[int]


class Arrived(Struct, frozen=True, gc=False):
    request: Request


class Cancelled(Struct, frozen=True, gc=False):
    request: RequestId
    why: CancelWhy = CancelWhy.CLIENT_LEFT


class Tokens(Struct, frozen=True, gc=False):
    """What one step of one instance brought."""

    instance: InstanceId
    rows: Sequence[TokenRow]


class Finished(Struct, frozen=True, gc=False):
    instance: InstanceId
    request: RequestId
    attempt: int
    reason: FinishReason
    cached_tokens: int = 0
    """Prompt tokens that were not computed because their prefix was cached."""
    n_produced: int | None = None
    """Output tokens in all; None where tokens and this word travel in one frame, so that neither
    can be lost without the other."""


class Refused(Struct, frozen=True, gc=False):
    instance: InstanceId
    request: RequestId
    attempt: int
    why: RefuseWhy
    said: str = ""
    """The engine's own words, for the client; empty where it had none."""


class HandedOff(Struct, frozen=True, gc=False):
    """A hand-off has ended, says the instance that had the sequence. Comes after every token that
    it made."""

    instance: InstanceId
    request: RequestId
    attempt: int
    """As it was called here."""
    done: bool
    """The target has it. False: it is still here, or was never here; the target has nothing."""


class Preempted(Struct, frozen=True, gc=False):
    """A sequence lost its KV to make room, and waits to be computed again."""

    instance: InstanceId
    request: RequestId
    attempt: int


class Reported(Struct, frozen=True, gc=False):
    report: Report


class InstanceUp(Struct, frozen=True, gc=False):
    spec: InstanceSpec


class InstanceDown(Struct, frozen=True, gc=False):
    instance: InstanceId
    why: str = ""


class Leaving(Struct, frozen=True, gc=False):
    """An instance is about to end by itself: somebody stops its worker. It takes nothing new."""

    instance: InstanceId


class Draining(Struct, frozen=True, gc=False):
    """The fleet is about to stop: nothing new enters, what is inside ends in peace."""


class Resized(Struct, frozen=True, gc=False):
    """Somebody wants a pool to have so many instances."""

    pool: str
    n: int


class Unplaced(Struct, frozen=True, gc=False):
    """Of the instances that a pool was to get, so many find no room to run in, until the next
    word of it."""

    pool: str
    n: int


class Tick(Struct, frozen=True, gc=False):
    """Time passed. Whoever drives the fleet sends one every second or so."""


InstanceEvent = Tokens | Finished | Preempted
"""What committing a step can bring."""

Event = (
    Arrived
    | Cancelled
    | Tokens
    | Finished
    | Refused
    | HandedOff
    | Preempted
    | Reported
    | InstanceUp
    | InstanceDown
    | Leaving
    | Draining
    | Resized
    | Unplaced
    | Tick
)
