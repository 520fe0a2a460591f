"""Virtual token counters of those who share something."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from math import exp, inf

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
        "name",
        "own",
        "queued_cost",
        "rank",
        "weight",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.counter = 0.0
        """Cost served, by weight; only differences to others mean something."""
        self.own = 0.0
        """The counter as it would be had nobody lifted it when this queued: of two that are equal
        who was served less goes first, then who came first."""
        self.rank = 0
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


class Turns:
    """Accounts, by whose turn comes first. Nobody's counter changes while they are in here."""

    def __init__(self) -> None:
        self._places: list[tuple[float, float, int, Account]] = []

    def __bool__(self) -> bool:
        return bool(self._places)

    def __iter__(self) -> Iterator[Account]:
        """Holds until somebody comes or goes."""
        return (account for *_, account in self._places)

    def add(self, account: Account) -> None:
        insort(self._places, (account.counter, account.own, account.rank, account))

    def remove(self, account: Account) -> None:
        del self._places[bisect_left(self._places, (account.counter, account.own, account.rank))]

    @property
    def least(self) -> float:
        """The counter of the first."""
        return self._places[0][0]

    def n_before(self, counter: float, own: float) -> int:
        """How many go before somebody who comes now."""
        return bisect_left(self._places, (counter, own, inf))


class Accounts:
    """Accounts by name. Who cannot be told from a newcomer is forgotten."""

    def __init__(self) -> None:
        self.by_name: dict[str, Account] = {}
        self._queued = Turns()
        """Those with anything queued."""
        self._running = Turns()
        """Of the others, those with anything running."""
        self._all = Account("")
        """Everybody, as if they were one."""
        self._busy_weight = 0.0
        """Of those with anything under way."""
        self._last_rank = 0
        self._last_left = 0.0
        """The counter of whoever was the last to have anything under way."""
        self._n_kept = 0

    def in_turn(self) -> Iterator[str]:
        """The names of those with something queued, as their turns come."""
        return (account.name for account in self._queued)

    def enter(self, name: str, weight: float, cost: float, now: float) -> None:
        """A request queues. Idle time earns no credit: an account with nothing queued is lifted to
        the least of the others'."""
        account = self.by_name.get(name)
        if account is None:
            account = self.by_name[name] = Account(name)
        self._take_out(account)
        if not account.n_queued:
            account.own = account.counter
            account.counter = max(account.counter, self._least())
            self._last_rank += 1
            account.rank = self._last_rank
        account.weight = weight
        account.enter(cost, now)
        self._all.enter(cost, now)
        self._put_back(account)

    def _least(self) -> float:
        """Among those with requests queued; among those with requests running, where none are."""
        if self._queued:
            return self._queued.least
        return self._running.least if self._running else self._last_left

    def begin(self, name: str, queued_cost: float, cost: float, now: float) -> None:
        """One that was queued runs, and is charged."""
        account = self.by_name[name]
        self._take_out(account)
        account.begin(queued_cost, cost, now)
        account.own = account.counter
        self._all.begin(queued_cost, cost, now)
        self._put_back(account)

    def settle(self, name: str, cost: float) -> None:
        """One that ran has ended; `cost` is what it cost beyond what it was charged."""
        account = self.by_name[name]
        self._take_out(account)
        account.n_running -= 1
        account.counter = max(account.counter + cost / account.weight, 0.0)
        self._put_back(account)
        self._left(account)

    def give_up(self, name: str, queued_cost: float) -> None:
        """One that was queued ends without having run."""
        account = self.by_name[name]
        self._take_out(account)
        account.leave_queue(queued_cost)
        self._all.leave_queue(queued_cost)
        self._put_back(account)
        self._left(account)

    def _take_out(self, account: Account) -> None:
        """Of its place among the others, until what is about to change has changed."""
        if account.n_queued:
            self._queued.remove(account)
        elif account.n_running:
            self._running.remove(account)
        else:
            return
        self._busy_weight -= account.weight

    def _put_back(self, account: Account) -> None:
        if account.n_queued:
            self._queued.add(account)
        elif account.n_running:
            self._running.add(account)
        else:
            return
        self._busy_weight += account.weight

    def n_queued(self, name: str) -> int:
        account = self.by_name.get(name)
        return account.n_queued if account is not None else 0

    def queued_cost(self, name: str) -> float:
        account = self.by_name.get(name)
        return account.queued_cost if account is not None else 0.0

    def n_before(self, name: str, n_own: int) -> int:
        """How many requests of others have their turns before one that comes now and has so many
        of its own account before it: as many of each other, and one more of those whose turn comes
        first."""
        mine = self.by_name.get(name)
        if mine is None or not mine.n_queued:
            own = 0.0 if mine is None else mine.counter
            return self._queued.n_before(max(own, self._least()), own)
        return sum(
            min(other.n_queued, n_own + (other.counter <= mine.counter))
            for other in self._queued
            if other is not mine
        )

    def rate_per_s(self, name: str, weight: float, now: float) -> float:
        """What an account with something queued will be served a second: as much as lately, or its
        share of what all were, if that is more. 0 where neither is known."""
        share_per_s = self._all.rate_per_s(now) * weight / self._busy_weight
        return max(self.by_name[name].rate_per_s(now), share_per_s)

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
