"""Virtual token counters of those who share something."""

from __future__ import annotations

from math import exp

RATE_S = 2.0
"""Over which time what somebody is served is averaged: of the time in which they had to wait."""
LEAST_S = 0.1
"""So much of it must have passed to know anything."""
FORGET_ABOVE = 256
"""Accounts are looked through for such as can go when there are twice as many as were left the
last time, and more than these."""


class Account:
    """What one of them was served, and has under way."""

    __slots__ = (
        "_as_of_s",
        "_queued_s",
        "_served",
        "_waits_since_s",
        "counter",
        "n_queued",
        "n_running",
        "queued_cost",
        "weight",
    )

    def __init__(self) -> None:
        self.counter = 0.0
        """Cost served, by weight; only differences to others mean something."""
        self.weight = 1.0
        self.n_queued = 0
        self.n_running = 0
        self.queued_cost = 0.0
        self._served = 0.0
        """Cost, of those who had waited; it fades, as does the next."""
        self._queued_s = 0.0
        """How long anything was queued."""
        self._as_of_s = 0.0
        self._waits_since_s = 0.0
        """Since when something is queued, where something is."""

    @property
    def idle(self) -> bool:
        return not self.n_queued and not self.n_running

    def enter(self, cost: float, now: float) -> None:
        self._advance(now)
        if not self.n_queued:
            self._waits_since_s = now
        self.n_queued += 1
        self.queued_cost += cost

    def begin(self, queued_cost: float, cost: float, now: float) -> None:
        self._advance(now)
        if now > self._waits_since_s:
            self._served += cost
        self.leave_queue(queued_cost)
        self.n_running += 1
        self.counter += cost / self.weight

    def leave_queue(self, queued_cost: float) -> None:
        self.n_queued -= 1
        self.queued_cost = self.queued_cost - queued_cost if self.n_queued else 0.0

    def rate_per_s(self, now: float) -> float:
        """Cost served a second, lately, while there was something to serve; 0: unknown."""
        self._advance(now)
        return self._served / self._queued_s if self._queued_s >= LEAST_S else 0.0

    def _advance(self, now: float) -> None:
        if self.n_queued:
            kept = exp((self._as_of_s - now) / RATE_S)
            self._served *= kept
            self._queued_s = self._queued_s * kept + RATE_S * (1 - kept)
        self._as_of_s = now


class Accounts:
    """Accounts by name. Who cannot be told from a newcomer is forgotten."""

    def __init__(self) -> None:
        self.by_name: dict[str, Account] = {}
        self._last_left = 0.0
        """The counter of whoever was the last to have anything under way."""
        self._n_kept = 0

    def enter(self, name: str, weight: float, cost: float, now: float) -> None:
        """A request queues. Idle time earns no credit: an account with nothing queued is lifted to
        the least of the others'."""
        account = self.by_name.get(name)
        if account is None:
            account = self.by_name[name] = Account()
        account.weight = weight
        if not account.n_queued:
            account.counter = max(account.counter, self._least_other(account))
        account.enter(cost, now)

    def _least_other(self, account: Account) -> float:
        """Among those with requests queued; among those with requests running, where none are."""
        others = [a for a in self.by_name.values() if a is not account and not a.idle]
        queued = [a.counter for a in others if a.n_queued]
        return min(queued or [a.counter for a in others], default=self._last_left)

    def begin(self, name: str, queued_cost: float, cost: float, now: float) -> None:
        """One that was queued runs, and is charged."""
        self.by_name[name].begin(queued_cost, cost, now)

    def settle(self, name: str, cost: float) -> None:
        """One that ran has ended; `cost` is what it cost beyond what it was charged."""
        account = self.by_name[name]
        account.n_running -= 1
        account.counter = max(account.counter + cost / account.weight, 0.0)
        self._left(account)

    def give_up(self, name: str, queued_cost: float) -> None:
        """One that was queued ends without having run."""
        account = self.by_name[name]
        account.leave_queue(queued_cost)
        self._left(account)

    def queued_cost(self, name: str) -> float:
        account = self.by_name.get(name)
        return account.queued_cost if account is not None else 0.0

    def rate_per_s(self, name: str, weight: float, now: float) -> float:
        """What an account with something queued will be served a second: as much as lately, or its
        share of what all were, if that is more. 0 where neither is known."""
        total_per_s = sum(a.rate_per_s(now) for a in self.by_name.values())
        busy_weight = sum(a.weight for a in self.by_name.values() if not a.idle)
        return max(self.by_name[name].rate_per_s(now), total_per_s * weight / busy_weight)

    def _left(self, account: Account) -> None:
        if account.idle:
            self._last_left = account.counter
            if len(self.by_name) > max(2 * self._n_kept, FORGET_ABOVE):
                self._forget()

    def _forget(self) -> None:
        """Those who would be lifted anyway when they come again."""
        busy = [a.counter for a in self.by_name.values() if not a.idle]
        least = min(busy, default=self._last_left)
        kept = {n: a for n, a in self.by_name.items() if not a.idle or a.counter > least}
        self.by_name = kept
        self._n_kept = len(kept)
