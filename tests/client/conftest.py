from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.client.fake_server import FakeServer, serving


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """An honest server that is no Fairlead gateway."""
    with serving(FakeServer()) as running:
        yield running


@pytest.fixture
def gateway() -> Iterator[FakeServer]:
    """A server that speaks like a Fairlead gateway."""
    own = {
        "vocab": [32, 126],
        "objectives": {"interactive": {"ttft_s": 30.0, "tpot_s": 30.0}, "batch": {}},
    }
    with serving(FakeServer(model={"id": "nano", "fairlead": own})) as running:
        yield running
