"""What a rescheduling policy offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from fairlead.model import HandoffWhy, HostView, InstanceId, RequestId


class Move(NamedTuple):
    """A proposal. The fleet looks at it again before it is carried out: it is dropped where the
    request has ended or moves already, or the target has no room for it."""

    request: RequestId
    source: InstanceId
    target: InstanceId
    why: HandoffWhy = HandoffWhy.REBALANCE


class ReschedulingPolicy(Protocol):
    """Asked every `period_s`; never on a token."""

    period_s: float

    def propose(self, hosts: Sequence[HostView], now: float) -> Sequence[Move]:
        """Moves worth their cost, the most urgent first. `hosts` all serve one model. A request
        that has not begun is sent anew, one that decodes is handed off with its KV."""
        ...
