"""A worker that is told to stop while what it holds moves away."""

from __future__ import annotations

import asyncio

from fairlead.worker.wire import Goodbye, Moved
from tests.patience import PATIENCE_S
from tests.worker.fakes import a_gateway, running
from tests.worker.test_handoff import a_kv_worker, begin, lines_of


async def test_it_says_that_its_last_sequence_has_moved_before_it_goes() -> None:
    """Else the fleet would compute again what the target has."""
    async with a_gateway() as gateway:
        leaving = a_kv_worker(gateway.address, "source")
        async with (
            running(leaving) as task,
            running(a_kv_worker(gateway.address, "target")),
        ):
            source, target, hello = await lines_of(gateway)
            await begin(source, hello)
            leaving.drain()
            assert await source.hear(Moved) == Moved("r1", 1, True)
            assert (await source.hear(Goodbye)).why == "drained"
            assert await asyncio.wait_for(task, PATIENCE_S) is None
            target.hang_up()
