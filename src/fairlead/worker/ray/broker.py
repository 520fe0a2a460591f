"""The broker: the one process of a gateway that is connected to a Ray cluster.

It is apart from the gateway because Ray ends a process whose cluster is gone for a minute, and
takes its signals over. `python -m fairlead.worker.ray.broker ADDRESS` reads orders on standard
input and tells its news on standard output; it ends when the input does, and its actors with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table
from ray.util.placement_group import remove_placement_group as remove
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from fairlead.model import ConfigError
from fairlead.worker.kept import End
from fairlead.worker.link import Address
from fairlead.worker.ray.actor import WorkerActor
from fairlead.worker.ray.orders import (
    AnyNews,
    Connected,
    DrainLife,
    KillLife,
    NoRoom,
    NotConnected,
    Over,
    Said,
    Start,
    read_order,
    write,
)
from fairlead.worker.ray.room import why_no_room
from fairlead.worker.ray.settings import AUTO, Needs

REACH_S = 5.0
"""Ray itself would try for a minute, and end in a stack trace."""
FIRST_LOOK_S = 0.05
LAST_LOOK_S = 1.0
PATIENCE_S = 5.0
"""A cluster that has room gives it within this time; later is worth a word."""
LEAST = {"CPU": 0.0001}
"""What is reserved for an instance that takes nothing: Ray reserves no less."""
MAX_ORDER_BYTES = 1 << 20

Tell = Callable[[AnyNews], None]


class Actor:
    """One worker on the cluster, from its wish for room to its end."""

    def __init__(self, order: Start, tell: Tell) -> None:
        self._order = order
        self._tell = tell
        self._needs = Needs(order.num_cpus, order.num_gpus, order.resources)
        self._handle: Any = None
        self._draining = False
        self._task = asyncio.create_task(self._in_room())
        self._task.add_done_callback(self._over)

    def drain(self) -> None:
        """One that has no room yet has nothing to drain."""
        self._draining = True
        if self._handle is None:
            self._task.cancel()
        else:
            self._handle.drain.remote()

    def kill(self) -> None:
        self._task.cancel()

    def _over(self, task: asyncio.Task[End]) -> None:
        if task.cancelled():
            end = End(0 if self._draining else 1, "was stopped")
        elif error := task.exception():
            end = End(1, f"was lost: {_how(error)}", lost=True)
        else:
            end = task.result()
        self._tell(Over(self._order.life, end.status, end.how, end.lost))

    async def _in_room(self) -> End:
        """Room is reserved first: unlike an actor, what is reserved tells whether it is there."""
        group = placement_group([self._needs.bundle() or LEAST])
        try:
            await self._until_placed(group)
            return await self._follow(group)
        finally:
            if self._handle is not None:
                ray.kill(self._handle)
            remove(group)

    async def _until_placed(self, group: PlacementGroup) -> None:
        waited_s, look_s, said = 0.0, FIRST_LOOK_S, ""
        while (await asyncio.to_thread(placement_group_table, group))["state"] != "CREATED":
            await asyncio.sleep(look_s)
            waited_s, look_s = waited_s + look_s, min(2 * look_s, LAST_LOOK_S)
            if waited_s > PATIENCE_S:
                why = await asyncio.to_thread(_why, self._needs.bundle())
                if why != said:
                    self._tell(NoRoom(self._order.life, why))
                    said = why
        if said:
            self._tell(NoRoom(self._order.life, ""))

    async def _follow(self, group: PlacementGroup) -> End:
        strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0)
        self._handle = (
            ray.remote(WorkerActor)
            .options(
                num_cpus=self._needs.num_cpus,
                num_gpus=self._needs.num_gpus,
                resources=dict(self._needs.resources),
                scheduling_strategy=strategy,
                max_restarts=0,
            )
            .remote()
        )
        async for answer in self._handle.live.remote(self._order.settings, self._order.token):
            said = await answer
            if isinstance(said, End):
                return said
            self._tell(Said(self._order.life, said))
        return End(1, "ended without a word")


class Broker:
    """Obeys orders until there are no more."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._actors: dict[int, Actor] = {}

    async def serve(self) -> None:
        reader = asyncio.StreamReader(limit=MAX_ORDER_BYTES)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            order = read_order(line)
            actor = self._actors.get(order.life)
            if isinstance(order, Start):
                self._actors[order.life] = Actor(order, self._tell)
            elif isinstance(order, DrainLife) and actor is not None:
                actor.drain()
            elif isinstance(order, KillLife) and actor is not None:
                self._actors.pop(order.life).kill()


def main(address: str) -> None:
    """Joins the cluster, says so or why not, and serves."""
    # What Ray prints must not come between our lines.
    news = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    def tell(message: AnyNews) -> None:
        with contextlib.suppress(BrokenPipeError):
            news.write(write(message))

    try:
        _join(address)
    except ConfigError as error:
        tell(NotConnected(str(error)))
        return
    tell(Connected(_addresses()))
    asyncio.run(Broker(tell).serve())
    ray.shutdown()


def _join(address: str) -> None:
    if address != AUTO:
        _reach(Address.parse(address))
    try:
        ray.init(address=address, logging_level="ERROR", log_to_driver=False)
    except (RayError, RuntimeError, ConnectionError, ValueError, OSError) as error:
        raise ConfigError(
            f"cannot join the Ray cluster at {address}: {_plainly(error)}; expected ray.address to "
            "be what `ray start --head` printed, with the same versions of Ray and Python there"
        ) from error


def _reach(address: Address) -> None:
    try:
        socket.create_connection((address.host, address.port), REACH_S).close()
    except OSError as error:
        raise ConfigError(
            f"no Ray cluster at {address}: {error.strerror or error}; start one with "
            "`ray start --head`, or set ray.address"
        ) from error


def _addresses() -> tuple[str, ...]:
    own: str = ray.util.get_node_ip_address()
    return tuple(dict.fromkeys([own, *(node["NodeManagerAddress"] for node in _living())]))


def _living() -> list[Mapping[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _why(bundle: Mapping[str, float]) -> str:
    return why_no_room(bundle, [node["Resources"] for node in _living()], ray.available_resources())


def _how(error: BaseException) -> str:
    """In words for people; Ray's own are a page."""
    if isinstance(error, ActorUnavailableError):
        return "its process or its node is gone"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reasons = [line for line in lines if "Error: " in line]
    if reasons:
        return reasons[-1]
    if isinstance(error, ActorDiedError):
        return "its process or its node died"
    return _plainly(error)


def _plainly(error: BaseException) -> str:
    """The first line of what Ray says; the rest are its own traces."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


if __name__ == "__main__":
    main(sys.argv[1])
