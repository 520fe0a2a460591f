"""Moves what gains more seconds than its move costs, a kept promise counted as many of them.

Source: our own; DualMap's relief of hot spots and Llumnix' of memory, with one price for both.
Rule:   a request that waits and would be late gains what its first token comes sooner where it is
        in time, and `promise_s`; it costs those there the time that its prompt takes, and
        `promise_s` for each promised pace that it is expected to break. One that was promised
        nothing gains seconds only, and moves to where nobody was promised anything. A sequence that
        decodes gains what the memory it frees saves those who wait for memory, and costs its
        hand-off and the longer steps there (`relief.py`). What gains enough moves, the most first,
        as long as it still gains after the moves before it.

What is in time where it is, or past due, stays. So does who has only a deadline: where urgent ones
go first it has its turn when it is due, and what it gains before is worth nothing to it and costs
others their pace. So does a sequence that falls behind its pace: the queue that slows it is gone
before it is answered. What those here are spared by a move does not count for it: routing has
gathered long prompts where few decode, and knew that they would burden each other; whoever credits
that scatters them again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

from fairlead.model import HostView, InstanceId, RequestId
from fairlead.policies.registry import rescheduling
from fairlead.policies.rescheduling.chances import Chance, Chances
from fairlead.policies.rescheduling.draining import emptying
from fairlead.policies.rescheduling.dwell import Dwell
from fairlead.policies.rescheduling.parts import Move
from fairlead.policies.rescheduling.relief import Relief
from fairlead.policies.rescheduling.room import settled


@dataclass(frozen=True, slots=True)
class Params:
    period_s: float = 0.5
    promise_s: float = 10.0
    """Seconds of others' waiting that one kept promise is worth."""
    gain_s: float = 0.2
    """Least gain for which a request that has not begun moves."""
    hand_off_gain_s: float = 1.0
    """The same for a sequence that decodes: its KV pushes cached prefixes out of the target."""
    spare: float = 0.6
    """A promise counts as kept if the prediction takes at most this fraction of what is left."""
    horizon_s: float = 2.0
    """Memory that is gone within this time is short now."""
    choices: int = 4
    """Instances looked at as targets, those with the shortest queues."""
    depth: int = 64
    """Waiting requests of an instance looked at in a round, the last that were sent there."""
    looks: int = 1000
    """Predictions that a round asks for about those who wait, those in the longest queues first: a
    request where it is is one, and at each instance looked at as its target one more."""
    slots: int = 4
    """Hand-offs that an instance takes part in at a time."""
    dwell_s: float = 20.0
    """For so long what moved stays, and nothing moves between the same two the other way."""

    def __post_init__(self) -> None:
        if self.period_s <= 0:
            raise ValueError(f"period_s must be positive, got {self.period_s}")
        if not 0 < self.spare <= 1:
            raise ValueError(f"spare must be above 0 and at most 1, got {self.spare}")
        if min(self.choices, self.depth, self.looks, self.slots) < 1:
            raise ValueError("choices, depth, looks and slots must be at least 1")
        if min(self.promise_s, self.horizon_s, self.dwell_s) < 0:
            raise ValueError("promise_s, horizon_s and dwell_s must be at least 0")
        if min(self.gain_s, self.hand_off_gain_s) < 0:
            raise ValueError("gain_s and hand_off_gain_s must be at least 0")


@rescheduling("predicted-gain", Params)
class PredictedGain:
    def __init__(self, params: Params, rng: Random) -> None:
        self.period_s = params.period_s
        self._params = params
        self._dwell = Dwell(params.dwell_s)
        self._relief = Relief(params.horizon_s, params.hand_off_gain_s, params.slots, self._dwell)

    def propose(self, hosts: Sequence[HostView], now: float) -> list[Move]:
        self._dwell.forget(now)
        leaving = emptying(hosts, self._params.slots, settled)
        moves = [self._dwell.note(move, now) for move in leaving]
        staying = [host for host in hosts if not host.draining]
        full = {move.target for move in moves}
        moves += self._relief.moves([host for host in staying if host.id not in full], now)
        params = self._params
        chances = Chances(
            staying,
            self._dwell,
            now,
            is_worth=lambda chance: self._gain_s(chance) > params.gain_s,
            promise_s=params.promise_s,
            choices=params.choices,
            depth=params.depth,
            looks=params.looks,
        )
        return moves + self._take(chances, now)

    def _take(self, chances: Iterable[Chance], now: float) -> list[Move]:
        """The best first; what moved before makes the queue here shorter, and that there longer."""
        moves: dict[RequestId, Move] = {}
        gone_s: dict[InstanceId, float] = {}
        come_s: dict[InstanceId, float] = {}
        for chance in sorted(chances, key=lambda one: (-self._gain_s(one), one.move)):
            move = chance.move
            gone, come = gone_s.get(move.source, 0.0), come_s.get(move.target, 0.0)
            if move.request in moves or move.source in come_s or move.target in gone_s:
                continue
            if self._gain_s(chance, gone, come) > self._params.gain_s:
                moves[move.request] = self._dwell.note(move, now)
                gone_s[move.source] = gone + chance.own_s
                come_s[move.target] = come + chance.own_s
        return list(moves.values())

    def _gain_s(self, chance: Chance, gone_s: float = 0.0, come_s: float = 0.0) -> float:
        here_s, there_s = chance.here_s - gone_s, chance.there_s + come_s
        if there_s > self._params.spare * chance.due_s:
            return 0.0
        # Those who went before it may have made it late no more.
        promise_s = self._params.promise_s if here_s > chance.due_s else 0.0
        return here_s - there_s + promise_s - chance.cost_s
