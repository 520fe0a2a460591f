"""Requests that wait on an overloaded instance go where their first token comes soonest.

Paper: "DualMap: Enabling Both Cache Affinity and Load Balancing for Distributed LLM Serving".
Rule:  an instance is overloaded if a request that waits there is predicted to miss its TTFT. Its
       waiting requests move in descending order of benefit, that is, predicted TTFT here less
       predicted TTFT there, as long as the benefit is positive and the TTFT there is kept, until
       all that are left keep theirs; one pass, and what moved does not move on.

The paper moves a request to the other instance of its prefix's pair. A rescheduling policy does
not know what pairs routing has in mind, so any of the `choices` instances with the shortest queues
may be "there". Only requests that have not begun move, so no KV is carried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from fairlead.model import HostView, InstanceId, PlacedView
from fairlead.policies.registry import rescheduling
from fairlead.policies.rescheduling.dwell import Dwell
from fairlead.policies.rescheduling.parts import Move
from fairlead.policies.rescheduling.room import begins


@dataclass(frozen=True, slots=True)
class Params:
    period_s: float = 0.5
    ttft_s: float = 5.0
    """Time to the first token to be kept where the request is promised none."""
    choices: int = 4
    """Instances looked at as targets, those with the shortest queues."""
    depth: int = 128
    """Waiting requests of an instance looked at in a round, the last that were sent there."""
    gain_s: float = 0.1
    """Smallest benefit worth a move; the paper takes any."""
    dwell_s: float = 5.0
    """For so long what moved stays, and nothing moves between the same two the other way."""

    def __post_init__(self) -> None:
        if self.period_s <= 0 or self.ttft_s <= 0:
            raise ValueError("period_s and ttft_s must be positive")
        if min(self.choices, self.depth) < 1:
            raise ValueError("choices and depth must be at least 1")
        if min(self.gain_s, self.dwell_s) < 0:
            raise ValueError("gain_s and dwell_s must be at least 0")


class Waiting(NamedTuple):
    """A request in a queue."""

    placed: PlacedView
    ttft_s: float
    """Predicted, from now, where it is."""
    left_s: float
    """Time until its first token is due; infinite where its client has it already."""

    def late(self, sooner_s: float = 0.0) -> bool:
        """Whether it will miss its objective, but need not: what is past due no move can help."""
        return 0 <= self.left_s < self.ttft_s - sooner_s


class Queue(NamedTuple):
    """What waits on an instance, as far as it is looked at."""

    host: HostView
    waiting: list[Waiting]

    @property
    def overloaded(self) -> bool:
        return any(one.late() for one in self.waiting)

    @property
    def s_per_token(self) -> float:
        """How fast it is worked off: what a request that moves takes along."""
        tokens = sum(placed.context_tokens for placed in self.host.queue)
        return max(one.ttft_s for one in self.waiting) / tokens


class Benefit(NamedTuple):
    gain_s: float
    place: int
    """In the queue."""
    ttft_s: dict[InstanceId, float]
    """Predicted on each instance that it may go to."""


@rescheduling("hotspot", Params)
class Hotspot:
    def __init__(self, params: Params, rng: Random) -> None:
        self.period_s = params.period_s
        self._params = params
        self._dwell = Dwell(params.dwell_s)

    def propose(self, hosts: Sequence[HostView], now: float) -> list[Move]:
        self._dwell.forget(now)
        queues = [self._queue(host, now) for host in hosts if host.waiting]
        hot = {queue.host.id: queue for queue in queues if queue.overloaded}
        shortest = sorted(hosts, key=lambda host: (host.queued_tokens, host.id))
        cool = [host for host in shortest if begins(host) and host.id not in hot]
        targets = cool[: self._params.choices]
        promised_s = dict.fromkeys([host.id for host in targets], 0.0)
        moves: list[Move] = []
        for queue in hot.values():
            moves += self._relieve(queue, targets, promised_s, now)
        return moves

    def _queue(self, host: HostView, now: float) -> Queue:
        last = host.queue[-self._params.depth :]
        return Queue(
            host,
            [
                Waiting(one, host.predicted_ttft_s(one.request), self._left_s(one, now))
                for one in last
            ],
        )

    def _left_s(self, placed: PlacedView, now: float) -> float:
        if placed.first_token_s is not None:
            return float("inf")
        promised_s = placed.request.objective.ttft_s or self._params.ttft_s
        return placed.request.arrival_s + promised_s - now

    def _relieve(
        self,
        queue: Queue,
        targets: list[HostView],
        promised_s: dict[InstanceId, float],
        now: float,
    ) -> list[Move]:
        """One pass over the queue. `promised_s` is the work that this round adds to targets."""
        moves: list[Move] = []
        s_per_token = queue.s_per_token
        gone_s = [0.0] * len(queue.waiting)
        for benefit in self._benefits(queue, targets):
            if _kept(queue.waiting, gone_s):
                break
            waiting = queue.waiting[benefit.place]
            ttft_s, there = min((s + promised_s[id], id) for id, s in benefit.ttft_s.items())
            here_s = waiting.ttft_s - sum(gone_s[: benefit.place])
            if here_s - ttft_s <= self._params.gain_s or ttft_s > waiting.left_s:
                continue
            own_s = s_per_token * waiting.placed.context_tokens
            promised_s[there] += own_s
            gone_s[benefit.place] = own_s
            move = Move(waiting.placed.request.id, queue.host.id, there)
            moves.append(self._dwell.note(move, now))
        return moves

    def _benefits(self, queue: Queue, targets: list[HostView]) -> list[Benefit]:
        """For each request that may move the best it can gain; the most first."""
        source = queue.host.id
        found: list[Benefit] = []
        allowed = [host for host in targets if not self._dwell.swaps(source, host.id)]
        for place, one in enumerate(queue.waiting):
            request = one.placed.request
            if not allowed or one.placed.is_moving or self._dwell.holds(request.id):
                continue
            ttft_s = {host.id: host.predicted_ttft_s(request) for host in allowed}
            best_s = min(ttft_s.values())
            if one.ttft_s - best_s > self._params.gain_s and best_s <= one.left_s:
                found.append(Benefit(one.ttft_s - best_s, place, ttft_s))
        return sorted(found, key=lambda benefit: (-benefit.gain_s, benefit.place))


def _kept(waiting: list[Waiting], gone_s: list[float]) -> bool:
    """Whether all that are left keep their objective, now that some before them are gone."""
    ahead_s = 0.0
    for one, gone in zip(waiting, gone_s, strict=True):
        ahead_s += gone
        if not gone and one.late(ahead_s):
            return False
    return True
