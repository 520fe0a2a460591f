"""Who waits and may be better off elsewhere: what a round of `predicted-gain` holds against what.

A prediction costs microseconds, and an overloaded fleet has tens of thousands who wait. So a round
asks for so many and no more, and begins where most is to be gained: at the longest queues, against
the shortest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple

from fairlead.model import HostView, InstanceId, PlacedView, RequestView
from fairlead.policies.rescheduling.dwell import Dwell
from fairlead.policies.rescheduling.parts import Move
from fairlead.policies.rescheduling.room import begins, free_seats


class Chance(NamedTuple):
    """A waiting request that may be better off elsewhere."""

    move: Move
    here_s: float
    """Until its first token, predicted from now."""
    there_s: float
    due_s: float
    """Until its first token is due; infinite where nothing is promised."""
    own_s: float
    """What computing its prompt delays those behind it."""
    cost_s: float
    """What others lose by the move."""


class Chances:
    """Those of one round."""

    def __init__(
        self,
        hosts: Sequence[HostView],
        dwell: Dwell,
        now: float,
        *,
        is_worth: Callable[[Chance], bool],
        promise_s: float,
        choices: int,
        depth: int,
        looks: int,
    ) -> None:
        """`is_worth` tells whether one would be taken if it cost others nothing, for what it costs
        them takes longest to tell. The rest is as in `predicted_gain.Params`."""
        self._by_queue = sorted(hosts, key=lambda host: (host.queued_tokens, host.id))
        self._able = [host for host in self._by_queue if begins(host) and free_seats(host) > 0]
        self._dwell = dwell
        self._now = now
        self._is_worth = is_worth
        self._promise_s = promise_s
        self._choices = choices
        self._depth = depth
        self._looks = looks
        self._timed: dict[InstanceId, bool] = {}
        """Whether anybody there was promised a time."""

    def __iter__(self) -> Iterator[Chance]:
        for host in reversed(self._by_queue):
            if host.waiting and (targets := self._targets(host)):
                unpromised = [target for target in targets if not self._any_timed(target)]
                for placed in host.queue[-self._depth :]:
                    timed = placed.request.objective.timed
                    yield from self._of(placed, host, targets if timed else unpromised)
                    if self._looks <= 0:
                        return

    def _targets(self, source: HostView) -> list[HostView]:
        others = (
            host
            for host in self._able
            if host is not source and not self._dwell.swaps(source.id, host.id)
        )
        return list(islice(others, self._choices))

    def _of(
        self, placed: PlacedView, host: HostView, targets: Sequence[HostView]
    ) -> Iterator[Chance]:
        request, due_s = placed.request, _due_s(placed, self._now)
        held = placed.is_moving or self._dwell.holds(request.id)
        if not targets or held or due_s is None or due_s < 0:
            return
        self._looks -= 1
        here_s = host.predicted_ttft_s(request)
        if here_s <= due_s < float("inf"):
            return
        for target in targets:
            self._looks -= 1
            own_s, there_s = target.added_s(request), target.predicted_ttft_s(request)
            chance = Chance(
                Move(request.id, host.id, target.id), here_s, there_s, due_s, own_s, cost_s=0.0
            )
            if self._is_worth(chance):
                yield chance._replace(cost_s=self._burden_s(target, request))

    def _burden_s(self, host: HostView, request: RequestView) -> float:
        """What others there lose when its prompt is computed there."""
        broken_s = self._promise_s * host.broken_paces(request)
        return host.running * host.added_s(request) + broken_s

    def _any_timed(self, host: HostView) -> bool:
        if host.id not in self._timed:
            self._timed[host.id] = any(
                placed.request.objective.timed for placed in chain(host.queue, host.decoding)
            )
        return self._timed[host.id]


def _due_s(placed: PlacedView, now: float) -> float | None:
    """Time until its first token is due; infinite where none is promised, or its client has it.
    None where something is promised, and not of the first."""
    objective = placed.request.objective
    if placed.first_token_s is not None or not objective.timed:
        return float("inf")
    if objective.ttft_s is None:
        return None
    return placed.request.arrival_s + objective.ttft_s - now
