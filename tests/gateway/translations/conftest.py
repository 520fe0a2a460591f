"""A gateway that does not wait for instances."""

from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random

import pytest
from benchmarks.fake_worker import SPEC

from fairlead.fleet import Fleet, Limits
from fairlead.gateway import Gateway
from fairlead.policies.registry import build
from tests.gateway.conftest import new_gateway


@pytest.fixture
async def impatient() -> AsyncIterator[Gateway]:
    fleet = Fleet(
        build("routing", "round-robin", {}, Random(0)),
        build("admission", "always", {}, Random(0)),
        Limits(max_queued_s=0.1),
        models=[SPEC.model],
    )
    gateway = new_gateway(fleet, tick_s=0.05)
    await gateway.start()
    yield gateway
    await gateway.stop()
