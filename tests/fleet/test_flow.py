"""How much of the time goes to prompts."""

from __future__ import annotations

import pytest

from fairlead.fleet.flow import RATE_OF, PromptFlow
from fairlead.model import RequestId


def flow(n: int, every_s: float, pause_s: float) -> PromptFlow:
    found = PromptFlow()
    for i in range(n):
        found.add(i * every_s, pause_s, RequestId(f"r{i}"))
    return found


def test_the_share_is_that_of_the_last_prompts() -> None:
    steady = flow(5 * RATE_OF, every_s=1.0, pause_s=0.25)
    assert steady.share(5.0 * RATE_OF) == pytest.approx(0.25)
    assert steady.share(5.0 * RATE_OF, 0.25 * RATE_OF) == pytest.approx(0.5)


def test_of_few_prompts_nothing_is_said() -> None:
    assert flow(RATE_OF - 1, every_s=0.1, pause_s=5.0).share(2.0, 9.0) == 0.0


def test_a_burst_takes_all_the_time_there_is() -> None:
    assert flow(RATE_OF, every_s=0.0, pause_s=0.1).share(0.0) == 1.0


def test_it_falls_while_none_comes() -> None:
    burst = flow(RATE_OF, every_s=0.01, pause_s=0.1)
    assert burst.share(1.0) > 1.0 > burst.share(10.0) > burst.share(100.0) > 0.0


def test_what_is_not_computed_takes_no_time() -> None:
    refused = RequestId("too-long")
    found = flow(RATE_OF, every_s=1.0, pause_s=0.25)
    found.add(RATE_OF, 30.0, refused)
    assert found.share(RATE_OF) > 1.0
    found.withdraw(refused)
    found.withdraw(refused)
    assert found.share(RATE_OF) == 0.0  # One fewer than it takes to know.
    found.add(RATE_OF, 0.25, RequestId("next"))
    assert found.share(RATE_OF + 1.0) == pytest.approx(0.25)
