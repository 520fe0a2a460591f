"""The fleet's pools: how many instances each has, should have, and is about to have."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fairlead.fleet.shadow import Shadow
from fairlead.fleet.tracked import Tracked
from fairlead.model import Action, InstanceId, Scale, Stop
from fairlead.policies.scaling import ScalingPolicy

START_UP_S = 30.0
"""How long an instance takes to be up, until one has shown it."""
GIVE_UP_AFTER = 10
"""An instance that is not up after so many start-up times does not come."""


@dataclass(frozen=True, slots=True)
class PoolBounds:
    """What the fleet file says of a pool."""

    name: str
    model: str
    n: int
    """Instances to begin with."""
    min_instances: int
    max_instances: int


class Pool:
    """One pool. A `PoolView`."""

    def __init__(
        self, bounds: PoolBounds, policy: ScalingPolicy | None, queue: Iterable[Tracked]
    ) -> None:
        """`queue` are those who wait in the fleet for an instance, of whatever model."""
        self.name = bounds.name
        self.model = bounds.model
        self.min_instances = bounds.min_instances
        self.max_instances = bounds.max_instances
        self.start_up_s = START_UP_S
        self.policy = policy
        self.target = bounds.n
        """Instances that it should have."""
        self._up: dict[InstanceId, Shadow] = {}
        self._queue = queue
        self._asked_s: list[float | None] = [None] * bounds.n
        """When each instance was asked for that is not up yet; None: before the fleet began."""
        self._n_unplaced = 0
        """Of those, the last ones, that have no room to run in."""
        self._next_s = float("-inf")
        """When the policy is to be asked next."""
        self._managed = policy is not None and policy.period_s < float("inf")
        """Somebody scales it; else whoever started the instances looks after them."""

    @property
    def hosts(self) -> list[Shadow]:
        return [shadow for shadow in self._up.values() if not shadow.retiring]

    @property
    def retiring(self) -> list[Shadow]:
        """Those that are being emptied."""
        return [shadow for shadow in self._up.values() if shadow.retiring]

    @property
    def n_starting(self) -> int:
        return len(self._asked_s)

    @property
    def n_queued(self) -> int:
        return sum(tracked.request.model == self.model for tracked in self._queue)

    def came(self, shadow: Shadow, now: float) -> None:
        self._up[shadow.id] = shadow
        asked_s = self._asked_s.pop(0) if self._asked_s else None
        if asked_s is not None:
            self.start_up_s = now - asked_s

    def went(self, instance: InstanceId) -> None:
        self._up.pop(instance, None)

    def unplaced(self, n: int, now: float) -> None:
        """So many of those that were asked for have no room. Who has found some only now has taken
        no time to start so far."""
        n = min(n, self.n_starting)
        for i in range(max(self.n_starting - self._n_unplaced, 0), self.n_starting - n):
            self._asked_s[i] = now
        self._n_unplaced = n

    def resize(self, n: int) -> None:
        """From now on it should have `n` instances: somebody said so, and that goes beyond the
        bounds of the policy."""
        self._managed = True
        self.target = n
        self.min_instances = min(self.min_instances, n)
        self.max_instances = max(self.max_instances, n)

    def ask(self, now: float) -> None:
        """What the policy wants, where it is time to ask it."""
        if self._managed and self.policy is not None and now >= self._next_s:
            self._next_s = now + self.policy.period_s
            wanted = self.policy.desired(self, now)
            self.target = min(max(wanted, self.min_instances), self.max_instances)

    def balance(self, now: float) -> list[Action]:
        """Brings what there is nearer to what there should be. Instances that are too many are
        emptied before they stop; one that is being emptied stays, where more are wanted again."""
        if not self._managed:
            return []
        late_s = now - GIVE_UP_AFTER * max(self.start_up_s, START_UP_S)
        self._asked_s = [s for s in self._asked_s if s is None or s > late_s]
        missing = self.target - len(self.hosts) - self.n_starting
        back = [shadow for shadow in self.retiring if not (shadow.stopping or shadow.leaving)]
        for shadow in back[: max(missing, 0)]:
            shadow.retire(False)
            missing -= 1
        if missing > 0:
            self._asked_s += [now] * missing
            return [Scale(self.name, len(self._up) + self.n_starting)]
        actions, missing = self._take_back(missing)
        # Who leaves anyhow goes first.
        by_load = sorted(self.hosts, key=lambda s: (not s.leaving, s.running + s.waiting, s.id))
        for shadow in by_load[: max(-missing, 0)]:
            shadow.retire(True)
        return actions

    def _take_back(self, missing: int) -> tuple[list[Action], int]:
        """Who is too many and has no room yet need not come: that goes before anybody who is here
        does. Returns what is still missing, too."""
        n = min(-missing, self._n_unplaced, self.n_starting)
        if n <= 0:
            return [], missing
        del self._asked_s[-n:]
        self._n_unplaced -= n
        return [Scale(self.name, len(self._up) + self.n_starting)], missing + n

    def stop_empty(self) -> list[Action]:
        """Those that should go, and hold nothing any more."""
        empty = [shadow for shadow in self.retiring if not shadow.attempts]
        for shadow in empty:
            shadow.stopping = True
        return [Stop(shadow.id) for shadow in empty]
