"""Virtual token counter: of the tenants that have something queued, the one that was served least
goes next.

Paper: Sheng et al., "Fairness in Serving Large Language Models", 2024 (VTC, its variant with
       predicted lengths).
Rule:  a tenant is charged, by its weight, w_in for every prompt token that is computed and w_out
       for every output token: the expected ones when a request is sent to an instance, the
       difference when it has ended. Who comes back is lifted to the least that others with queued
       requests have been charged. Users of one tenant share its part by the same rule. What was
       promised a time goes before what was not.

The paper orders the queue of one engine. Here it is the fleet's, so that it holds for any number
of instances and for engines whose queue is not ours. So that the queue is where requests wait,
instances are sent only what begins there within about `hold_s`. A prompt found in a cache is not
charged: a tenant gains by sharing, and takes nothing from others by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random

from fairlead.model import InstanceView, RequestId, RequestView
from fairlead.policies.fairness.accounts import Accounts
from fairlead.policies.fairness.parts import Lane
from fairlead.policies.registry import fairness

TIMED, UNTIMED = 0, 1
"""Tiers, first served first. Each is shared by itself: what somebody was given of what interactive
work leaves does not count against their interactive work."""
PATIENT_AT_LEAST = 0.25
"""Of what is served, this part goes to those who let others pass, once there are so many of them:
when they are due they go first."""


@dataclass(frozen=True, slots=True)
class Params:
    w_in: float = 1.0
    """Cost of a prompt token."""
    w_out: float = 2.0
    """Cost of an output token."""
    hold_s: float = 0.1
    """An instance is sent requests ahead of time, as many as have begun there in so long, and two
    at least: more lets it never run dry, less lets newcomers pass sooner."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """By tenant; of others a request says it. Twice the weight is twice the share."""

    def __post_init__(self) -> None:
        for name in ("w_in", "w_out", "hold_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not isinstance(self.weights, Mapping):
            raise ValueError(f"weights must be a table of tenants, got {self.weights!r}")
        for tenant, weight in self.weights.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or weight <= 0:
                raise ValueError(f"weights.{tenant} must be a number above 0, got {weight!r}")


class _Charge:
    """What is remembered of a request until it ends."""

    __slots__ = ("began", "cost", "lane", "output_tokens", "patient")

    def __init__(self, lane: Lane, patient: bool, cost: float, output_tokens: float) -> None:
        self.lane = lane
        self.patient = patient
        self.cost = cost
        self.output_tokens = output_tokens
        self.began = False


@fairness("vtc", Params)
class Vtc:
    def __init__(self, params: Params, rng: Random) -> None:
        self._params = params
        self.hold_s: float | None = params.hold_s
        self._tenants: dict[int, Accounts] = {TIMED: Accounts(), UNTIMED: Accounts()}
        self._users: dict[tuple[int, str], Accounts] = {}
        """Of each tenant with anything under way, those of its users."""
        self._patient = Accounts()
        """Of tenants, what lets others pass until it is due. No turn hangs on these: they tell how
        long that waits."""
        self._charges: dict[RequestId, _Charge] = {}

    def lane(self, request: RequestView) -> Lane:
        tier = TIMED if request.objective.timed else UNTIMED
        return (tier, request.tenant, request.user)

    def in_turn(self) -> Iterator[Lane]:
        for tier, tenants in self._tenants.items():
            for tenant in tenants.in_turn():
                for user in self._users[tier, tenant].in_turn():
                    yield (tier, tenant, user)

    def arrived(self, request: RequestView, output_tokens: float, now: float) -> None:
        params, lane = self._params, self.lane(request)
        tier, tenant, user = lane
        cost = params.w_in * request.prompt_tokens + params.w_out * output_tokens
        patient, weight = request.objective.patient, self._weight(request)
        self._charges[request.id] = _Charge(lane, patient, cost, output_tokens)
        self._tenants[tier].enter(tenant, weight, cost, now)
        if patient:
            self._patient.enter(tenant, weight, cost, now)
        users = self._users.get((tier, tenant))
        if users is None:
            users = self._users[tier, tenant] = Accounts()
        users.enter(user, 1.0, cost, now)

    def began(self, request: RequestView, instance: InstanceView, now: float) -> None:
        charge, params = self._charges[request.id], self._params
        computed = request.prompt_tokens - instance.cached_tokens(request)
        cost = params.w_in * computed + params.w_out * charge.output_tokens
        for accounts, name in self._charged(charge):
            accounts.begin(name, charge.cost, cost, now)
        charge.began = True

    def ended(self, request: RequestId, output_tokens: int) -> None:
        charge = self._charges.pop(request)
        beyond = self._params.w_out * (output_tokens - charge.output_tokens)
        for accounts, name in self._charged(charge):
            if charge.began:
                accounts.settle(name, beyond)
            else:
                accounts.give_up(name, charge.cost)
        tier, tenant, _ = charge.lane
        account = self._tenants[tier].by_name.get(tenant)
        if account is None or account.idle:
            del self._users[tier, tenant]

    def n_before(self, request: RequestView, n_own: int) -> int:
        tier, tenant, user = self.lane(request)
        users = self._users.get((tier, tenant))
        return n_own if users is None else n_own + users.n_before(user, n_own)

    def wait_s(self, request: RequestView, n_before: int, now: float) -> float:
        (tier, tenant, _), weight = self.lane(request), self._weight(request)
        everything, patient = self._tenants[tier], self._patient
        n_queued = everything.n_queued(tenant)
        if not n_before or not n_queued:
            return 0.0
        rate_per_s = everything.rate_per_s(tenant, weight, now)
        if not rate_per_s:
            return 0.0
        wait_s = everything.queued_cost(tenant) / rate_per_s
        # Those who cannot wait come all the time: a patient one's turn comes as that of its like.
        queued = patient.queued_cost(tenant) if request.objective.patient else 0.0
        if queued:
            least_per_s = PATIENT_AT_LEAST * rate_per_s
            rate_per_s = max(patient.rate_per_s(tenant, weight, now), least_per_s)
            wait_s = max(wait_s, queued / rate_per_s)
        # Its turn comes when others still wait at every instance.
        return min(n_before / n_queued, 1.0) * (wait_s + self._params.hold_s)

    def crowder(self, request: RequestView) -> Lane | None:
        tier, tenant, _ = self.lane(request)
        mine = self._tenants[tier].by_name.get(tenant)
        most = (mine.n_queued + 1) / self._weight(request) if mine is not None else 1.0
        found: tuple[int, str] | None = None
        for its_tier, accounts in self._tenants.items():
            for name, account in accounts.by_name.items():
                if account.n_queued / account.weight > most:
                    most, found = account.n_queued / account.weight, (its_tier, name)
        if found is None or found == (tier, tenant):
            return None
        users = self._users[found].by_name
        return (*found, max(users, key=lambda user: users[user].n_queued))

    def _weight(self, request: RequestView) -> float:
        return self._params.weights.get(request.tenant, request.share_weight)

    def _charged(self, charge: _Charge) -> Iterator[tuple[Accounts, str]]:
        """The accounts that a request stands in."""
        tier, tenant, user = charge.lane
        yield self._tenants[tier], tenant
        yield self._users[tier, tenant], user
        if charge.patient:
            yield self._patient, tenant
