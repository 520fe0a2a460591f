"""The last that came to one instance, of those who were promised a pace: whose pace one more prompt
may break. Whoever came before them has mostly run far ahead of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import islice

from fairlead.fleet.ledger import Ledger
from fairlead.fleet.tracked import Tracked
from fairlead.model import RequestId

LOOKED_AT = 32
"""Of those who wait, and of those who decode; what they tell stands for all."""


class Newest:
    """True until anybody comes, goes or begins."""

    __slots__ = ("decoding", "paces", "waiting", "weight_of_decoding", "weight_of_waiting")

    def __init__(self, ledger: Ledger, requests: Mapping[RequestId, Tracked]) -> None:
        """`requests` are all that the fleet has under way."""
        newest = [requests[id] for id in islice(reversed(ledger.decoding), LOOKED_AT)]
        self.decoding: list[tuple[float, Tracked]] = [
            (one.request.objective.tpot_s, one)
            for one in newest
            if one.request.objective.tpot_s is not None
        ]
        """Those who decode, with their paces, the last first."""
        self.paces = list(Counter(pace_s for pace_s, _ in self.decoding).items())
        """These paces, and how many have each."""
        self.waiting: list[tuple[float, int]] = []
        """The paces of those who wait, the last first, each with the tokens of the prompts that
        came after it."""
        tokens_behind = 0
        for pending in islice(reversed(ledger.pending.values()), LOOKED_AT):
            if pending.pace_s is not None:
                self.waiting.append((pending.pace_s, tokens_behind))
            tokens_behind += pending.tokens
        self.weight_of_decoding = max(len(ledger.decoding) / LOOKED_AT, 1.0)
        """How many each of them stands for."""
        self.weight_of_waiting = max(len(ledger.pending) / LOOKED_AT, 1.0)
