"""Numbers of pods as the fleet wants them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fairlead.model import ConfigError, InstanceSpec
from fairlead.worker.kubernetes.api import ApiError, ApiServer

FIRST_RETRY_S = 0.2
LAST_RETRY_S = 10.0
N_REMEMBERED = 1024
"""Workers told to end that we know of, so that each makes its pool smaller once."""


@dataclass(slots=True)
class PodPool:
    """A pool, and the Deployment that its workers are pods of."""

    name: str
    deployment: str
    instances: int
    """Pods that there should be at least when the gateway starts."""
    wanted: int = 0
    told: int = -1
    """What the API server last heard; -1: not known."""
    selector: str = ""
    n_unplaced: int = 0
    trouble: str = ""
    """What was told of last that did not work."""
    leaving: list[str] = field(default_factory=list)
    """Pods that are to go first."""


class Pods:
    """Scales Deployments. A `Provisioner`; it neither starts nor ends anything itself, so that
    workers outlive a gateway and join the next one."""

    def __init__(
        self,
        api: ApiServer,
        pools: Sequence[PodPool],
        *,
        tell: Callable[[str], None],
        unplaced: Callable[[str, int], None] = lambda pool, n: None,
        check_s: float = 10.0,
    ) -> None:
        """`unplaced` hears how many pods of a pool wait for a node, when that changes."""
        self._api = api
        self._pools = {pool.name: pool for pool in pools}
        self._tell = tell
        self._unplaced = unplaced
        self._check_s = check_s
        self._ended: dict[tuple[str, str], None] = {}
        self._news = asyncio.Event()
        self._stopping = False

    async def run(self) -> None:
        """Raises `ConfigError` where a Deployment cannot be scaled from the start; what fails later
        is told, and tried again."""
        try:
            for pool in self._pools.values():
                await self._begin(pool)
            retry_s = FIRST_RETRY_S
            while not self._stopping:
                well = await self._bring_about()
                retry_s = FIRST_RETRY_S if well else min(2 * retry_s, LAST_RETRY_S)
                await self._rest(self._check_s if well else retry_s)
        finally:
            await self._api.close()

    def scale(self, pool: str, n: int) -> None:
        """Fewer than there are take back pods that have no node yet; those that have one go when
        they are empty, see `ending`."""
        mine = self._pools.get(pool)
        if mine is not None:
            self._want(mine, max(n, mine.wanted - mine.n_unplaced))

    def ending(self, spec: InstanceSpec) -> None:
        """Its Deployment gets smaller by one, and it is the one to go: a pod whose worker merely
        ends is started again."""
        mine, who = self._pools.get(spec.pool), (spec.id, spec.incarnation)
        if mine is None or who in self._ended:
            return
        self._ended[who] = None
        if len(self._ended) > N_REMEMBERED:
            del self._ended[next(iter(self._ended))]
        mine.leaving.append(spec.id)
        self._want(mine, max(mine.wanted - 1, 0))

    def gone(self, spec: InstanceSpec) -> None:
        """Kubernetes sees to it itself."""

    async def stop(self, grace_s: float) -> None:
        self._stopping = True
        self._news.set()

    def _want(self, pool: PodPool, n: int) -> None:
        if n != pool.wanted:
            pool.wanted = n
            self._news.set()

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        if not self._stopping:
            self._news.clear()

    async def _begin(self, pool: PodPool) -> None:
        """A gateway that comes back leaves more pods than its file says to the scaling policy."""
        try:
            scale = await self._api.scale(pool.deployment)
        except ApiError as error:
            raise ConfigError(f"pool {pool.name!r} cannot be scaled: {error}") from error
        pool.told, pool.selector = scale.replicas, scale.selector
        pool.wanted = max(scale.replicas, pool.instances, pool.wanted)

    async def _bring_about(self) -> bool:
        """False where something did not work, and should be tried again soon."""
        well = True
        for pool in self._pools.values():
            try:
                await self._mark_leaving(pool)
                await self._set_scale(pool)
                await self._look(pool)
                pool.trouble = ""
            except (ApiError, ConfigError) as error:
                if str(error) != pool.trouble:
                    self._tell(f"pool {pool.name}: {error}; trying again")
                pool.trouble = str(error)
                well = False
        return well

    async def _mark_leaving(self, pool: PodPool) -> None:
        while pool.leaving:
            pod = pool.leaving[0]
            try:
                await self._api.prefer_to_delete(pod)
            except ApiError as error:
                if error.status != 404:
                    raise
                # No pod of that name: a worker that was given another, or one that is gone.
                self._tell(f"pool {pool.name}: no pod {pod}; Kubernetes chooses which one goes")
            pool.leaving.pop(0)

    async def _set_scale(self, pool: PodPool) -> None:
        n = pool.wanted
        if n == pool.told:
            return
        try:
            scale = await self._api.set_scale(pool.deployment, n)
        except ApiError:
            pool.told = -1
            raise
        self._tell(f"pool {pool.name}: Deployment {pool.deployment} set to {n} pods")
        pool.told, pool.selector = n, scale.selector or pool.selector

    async def _look(self, pool: PodPool) -> None:
        """Are there pods without a node? Asked as long as any might be."""
        if not pool.selector:
            return
        reasons = await self._api.without_room(pool.selector)
        if reasons and len(reasons) != pool.n_unplaced:
            n = len(reasons)
            self._tell(f"pool {pool.name}: {n} of {pool.wanted} pods have no room: {reasons[0]}")
        if len(reasons) != pool.n_unplaced:
            pool.n_unplaced = len(reasons)
            self._unplaced(pool.name, len(reasons))
