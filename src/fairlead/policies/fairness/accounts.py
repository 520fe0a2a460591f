"""Virtual token counters of those who share something."""

from __future__ import annotations

from math import exp

RATE_S = 2.0
"""Over which time what somebody is served is averaged."""
FORGET_ABOVE = 256
"""Accounts are looked through for such as can go when there are twice as many as were left the
last time, and more than these."""


class Account:
    """What one of them was served, and has under way."""

    __slots__ = ("_rate_s", "_served", "counter", "n_queued", "n_running", "queued_cost", "weight")

    def __init__(self) -> None:
        self.counter = 0.0
        """Cost served, by weight; only differences to others mean something."""
        self.weight = 1.0
        self.n_queued = 0
        self.n_running = 0
        self.queued_cost = 0.0
        self._served = 0.0
        self._rate_s = 0.0
        """When `_served` was right."""

    @property
    def idle(self) -> bool:
        return not self.n_queued and not self.n_running

    def serve(self, cost: float, now: float) -> None:
        self.counter += cost / self.weight
        self._served = self._decayed(now) + cost
        self._rate_s = now

    def rate_per_s(self, now: float) -> float:
        """Cost served a second, lately."""
        return self._decayed(now) / RATE_S

    def _decayed(self, now: float) -> float:
        return self._served * exp((self._rate_s - now) / RATE_S)


class Accounts:
    """Accounts by name. Who cannot be told from a newcomer is forgotten."""

    def __init__(self) -> None:
        self.by_name: dict[str, Account] = {}
        self._last_left = 0.0
        """The counter of whoever was the last to have anything under way."""
        self._n_kept = 0

    def enter(self, name: str, weight: float, cost: float) -> None:
        """A request queues. Idle time earns no credit: an account with nothing queued is lifted to
        the least of the others'."""
        account = self.by_name.get(name)
        if account is None:
            account = self.by_name[name] = Account()
        account.weight = weight
        if not account.n_queued:
            account.counter = max(account.counter, self._least_other(account))
        account.n_queued += 1
        account.queued_cost += cost

    def _least_other(self, account: Account) -> float:
        """Among those with requests queued; among those with requests running, where none are."""
        others = [a for a in self.by_name.values() if a is not account and not a.idle]
        queued = [a.counter for a in others if a.n_queued]
        return min(queued or [a.counter for a in others], default=self._last_left)

    def begin(self, name: str, queued_cost: float, cost: float, now: float) -> None:
        """One that was queued runs, and is charged."""
        account = self.by_name[name]
        self._leave_queue(account, queued_cost)
        account.n_running += 1
        account.serve(cost, now)

    def settle(self, name: str, cost: float) -> None:
        """One that ran has ended; `cost` is what it cost beyond what it was charged."""
        account = self.by_name[name]
        account.n_running -= 1
        account.counter = max(account.counter + cost / account.weight, 0.0)
        self._left(account)

    def give_up(self, name: str, queued_cost: float) -> None:
        """One that was queued ends without having run."""
        account = self.by_name[name]
        self._leave_queue(account, queued_cost)
        self._left(account)

    def wait_s(self, name: str, weight: float, now: float) -> float:
        """Time until what the account has queued now has been served: at the rate at which it was
        served lately, or at its share of the rate at which all were, if that is more."""
        account = self.by_name.get(name)
        if account is None or not account.n_queued:
            return 0.0
        busy = [a for a in self.by_name.values() if not a.idle]
        total_per_s = sum(a.rate_per_s(now) for a in self.by_name.values())
        share = total_per_s * weight / sum(a.weight for a in busy)
        rate_per_s = max(account.rate_per_s(now), share)
        return account.queued_cost / rate_per_s if rate_per_s > 0 else 0.0

    def _leave_queue(self, account: Account, queued_cost: float) -> None:
        account.n_queued -= 1
        left = account.queued_cost - queued_cost
        account.queued_cost = left if account.n_queued else 0.0

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
