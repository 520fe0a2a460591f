"""What a run says of a fleet whose size changes."""

from __future__ import annotations

from fairlead.fleet.config import read_config
from fairlead.simulate import simulate
from fairlead.workload.trace import TraceRow

START_UP_S = 5.0
SPAN_S = 200.0


def test_most_instances_are_counted_at_one_time_and_paid_from_when_they_were_asked_for() -> None:
    config = read_config(
        {
            "pool": [
                {
                    "model": "m",
                    "engine": "emulated",
                    "hardware": "a100-llama-3.1-8b",
                    "min_instances": 1,
                    "max_instances": 3,
                }
            ],
            "policy": {"scaling": "random-sizes", "params": {"scaling": {"period_s": 7.0}}},
            "simulation": {"start_up_s": START_UP_S},
        }
    )
    scaled: list[str] = []

    def observe(event: object, actions: object, now: float) -> None:
        scaled.extend(type(action).__name__ for action in actions)  # type: ignore[attr-defined]

    rows = [TraceRow(i, float(i), 100, 10) for i in range(int(SPAN_S))]
    found = simulate(config, rows, observers=[observe]).summary.facts.instances
    # More than three came, one after another, and never more than three at a time.
    assert scaled.count("Scale") > 3
    assert found.n_max == 3
    assert found.hours is not None
    assert SPAN_S < 3600 * found.hours < 3 * (SPAN_S + START_UP_S)
