"""What moved lately stays where it is, and no pair of instances swaps."""

from __future__ import annotations

from typing import TypeVar

from fairlead.model import InstanceId, RequestId
from fairlead.policies.rescheduling.parts import Move

Pair = tuple[InstanceId, InstanceId]
Key = TypeVar("Key")


class Dwell:
    """Remembers proposals for `dwell_s`. One that the fleet dropped counts too: what was not
    possible now is not asked for again at once."""

    def __init__(self, dwell_s: float) -> None:
        self._dwell_s = dwell_s
        self._requests: dict[RequestId, float] = {}
        self._pairs: dict[Pair, float] = {}
        """When each was last proposed, oldest first."""

    def forget(self, now: float) -> None:
        """Drops what is older than `dwell_s`, so that the memory is bounded by the moves of that
        time. Called once a round, before anything is asked."""
        _drop_before(self._requests, now - self._dwell_s)
        _drop_before(self._pairs, now - self._dwell_s)

    def holds(self, request: RequestId) -> bool:
        """Whether it moved lately."""
        return request in self._requests

    def swaps(self, source: InstanceId, target: InstanceId) -> bool:
        """Whether anything went the other way lately."""
        return (target, source) in self._pairs

    def note(self, move: Move, now: float) -> Move:
        """The move, which is remembered from now on."""
        pair = (move.source, move.target)
        self._requests.pop(move.request, None)
        self._pairs.pop(pair, None)
        self._requests[move.request] = now
        self._pairs[pair] = now
        return move


def _drop_before(times: dict[Key, float], limit: float) -> None:
    while times:
        oldest = next(iter(times))
        if times[oldest] > limit:
            return
        del times[oldest]
