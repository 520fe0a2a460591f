"""Who sees to it that pools have workers: processes here, actors on Ray, pods on Kubernetes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from fairlead.model import InstanceSpec


class Provisioner(Protocol):
    """Carries out what a fleet says about numbers of instances."""

    async def run(self) -> None:
        """Looks after workers until `stop`. Raises `ConfigError` where that makes no sense."""
        ...

    def scale(self, pool: str, n: int) -> None:
        """The pool is to have `n` workers, those counted that are starting or about to end. Fewer
        than there are takes back only what has not found a place to run yet."""
        ...

    def ending(self, spec: InstanceSpec) -> None:
        """This worker has been told to end, and is not to be started again. Said until it is
        gone."""
        ...

    def gone(self, spec: InstanceSpec) -> None:
        """The gateway has lost sight of this worker, and the fleet counts it no more."""
        ...

    async def stop(self, grace_s: float) -> None:
        """Ends the workers that are ours to end, and returns when they are gone."""
        ...


class Nobody:
    """Starts nothing: workers join by themselves. A `Provisioner`."""

    async def run(self) -> None:
        """There is nothing to look after."""

    def scale(self, pool: str, n: int) -> None:
        """Somebody else has to."""

    def ending(self, spec: InstanceSpec) -> None:
        """It ends by itself."""

    def gone(self, spec: InstanceSpec) -> None:
        """It may come back by itself."""

    async def stop(self, grace_s: float) -> None:
        """There is nothing to stop."""


class Together:
    """Several provisioners, each with pools of its own. A `Provisioner`."""

    def __init__(self, parts: Sequence[Provisioner], by_pool: Mapping[str, Provisioner]) -> None:
        self._parts = parts
        self._by_pool = by_pool

    async def run(self) -> None:
        """Returns when all have, or raises what the first raises that does; the others are
        cancelled then."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for part in self._parts:
                    tasks.create_task(part.run())
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    def scale(self, pool: str, n: int) -> None:
        if part := self._by_pool.get(pool):
            part.scale(pool, n)

    def ending(self, spec: InstanceSpec) -> None:
        if part := self._by_pool.get(spec.pool):
            part.ending(spec)

    def gone(self, spec: InstanceSpec) -> None:
        if part := self._by_pool.get(spec.pool):
            part.gone(spec)

    async def stop(self, grace_s: float) -> None:
        async with asyncio.TaskGroup() as tasks:
            for part in self._parts:
                tasks.create_task(part.stop(grace_s))
