"""What the fleet wants done. Every action says why, for the dashboard, the story and the tests."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from msgspec import Struct

from fairlead.model.events import CancelWhy, TokenRow
from fairlead.model.ids import InstanceId, RequestId
from fairlead.model.instance import Role
from fairlead.model.request import FinishReason, Request


class DispatchWhy(Enum):
    ROUTED = "routed"
    QUEUED = "queued"
    """It had waited in the fleet's own queue for an instance."""
    REFUSED_ELSEWHERE = "refused-elsewhere"
    INSTANCE_LOST = "instance-lost"
    MOVED = "moved"
    """It waited elsewhere, and is sooner served here."""
    LOST_ON_THE_WAY = "lost-on-the-way"
    """The instance's reports never showed it, or no longer do."""


class RejectWhy(Enum):
    QUEUE_FULL = "queue-full"
    NO_HEADROOM = "no-headroom"
    """Predicted to miss its objective on every instance."""
    WAITED_TOO_LONG = "waited-too-long"
    NO_INSTANCE = "no-instance"
    """The model is not served by any pool."""
    TOO_LONG = "too-long"
    UNSUPPORTED = "unsupported"
    """No engine can do what it asks for."""
    DRAINING = "draining"


class CompleteWhy(Enum):
    ENDED = "ended"
    """It ended by itself; `reason` says how."""
    CLIENT_LEFT = "client-left"
    CLIENT_SLOW = "client-slow"
    INSTANCES_LOST = "instances-lost"
    """It lost one instance after the other; perhaps it is what kills them."""
    NO_INSTANCE_LEFT = "no-instance-left"
    """Its instance died, and for too long there was no other to go on."""
    NOWHERE_FITS = "nowhere-fits"
    """Its instance died, and no other can hold it."""
    CANNOT_GO_ON = "cannot-go-on"
    """Its instance died, and no other can go on with an answer that has begun."""


class Outcome(Enum):
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"


class Dispatch(Struct, frozen=True, gc=False):
    """Send a request to an instance; tokens it produced elsewhere go along as known tokens."""

    instance: InstanceId
    request: Request
    attempt: int
    """Counts from 1; tokens of older attempts are void."""
    produced: tuple[int, ...]
    """Output tokens that the client already has; the instance goes on after them."""
    why: DispatchWhy


class HandoffWhy(Enum):
    PREFILL_DONE = "prefill-done"
    """Its prompt is computed where prompts are computed; it decodes where others decode."""
    REBALANCE = "rebalance"
    DEFRAGMENT = "defragment"
    """Another request needs the room in one piece."""
    DRAIN = "drain"
    """Its instance is to be emptied."""


class Handoff(Struct, frozen=True, gc=False):
    """Move a running sequence with its KV. Told to its instance, which carries it out with the
    target; the stream goes on meanwhile. See `instance/handoff.py`."""

    instance: InstanceId
    """Where it is."""
    target: InstanceId
    request: RequestId
    attempt: int
    """The attempt that counts now."""
    to_attempt: int
    """What it is called at the target. It counts from the first token on that the target makes."""
    why: HandoffWhy


class Deliver(Struct, frozen=True, gc=False):
    """Hand these rows to their clients: each token position once, in order."""

    rows: Sequence[TokenRow]


class Complete(Struct, frozen=True, gc=False):
    """An accepted request has ended. Nothing about it follows."""

    request: RequestId
    outcome: Outcome
    reason: FinishReason | None
    """Set where it finished."""
    why: CompleteWhy
    cached_tokens: int = 0
    said: str = ""
    """The last engine's own words, where it failed."""


class Reject(Struct, frozen=True, gc=False):
    """The request is not served. No token of it was delivered, nothing about it follows."""

    request: RequestId
    why: RejectWhy
    retry_after_s: float | None
    """When the same request would probably be accepted; None where never."""
    said: str = ""
    """The last engine's own words, where it refused."""


class Cancel(Struct, frozen=True, gc=False):
    """Stop an attempt on an instance and free its blocks."""

    instance: InstanceId
    request: RequestId
    attempt: int
    why: CancelWhy


class Scale(Struct, frozen=True, gc=False):
    """A pool should have so many instances, those that are starting or stopping counted."""

    pool: str
    n: int


class Stop(Struct, frozen=True, gc=False):
    """An instance is empty, and should end. Said until it is gone."""

    instance: InstanceId


class SetRole(Struct, frozen=True, gc=False):
    """From now on the fleet sends an instance what this role says. Nobody has to do anything: an
    instance does whatever it is sent."""

    instance: InstanceId
    role: Role


class TellCache(Struct, frozen=True, gc=False):
    """An instance is to tell its whole cache: some of what it said of it was lost on the way."""

    instance: InstanceId


Action = (
    Dispatch | Handoff | Deliver | Complete | Reject | Cancel | Scale | SetRole | Stop | TellCache
)
