"""Whole fleets in virtual time: theory by hand, repeatability, and what the default is for."""

from __future__ import annotations

import pytest

from fairlead.fleet.config import FleetConfig, read_config
from fairlead.latency import StepShape
from fairlead.simulate.simulator import Simulator
from fairlead.workload.records import Columns
from fairlead.workload.shape import Shape, ShapedTrace
from fairlead.workload.summary import summarize
from fairlead.workload.trace import TraceRow, open_trace

MIX = {"interactive": 0.6, "task": 0.2, "batch": 0.2}


def config(instances: int = 2, **policy: str) -> FleetConfig:
    return read_config(
        {
            "simulation": {"jitter_s": 0},
            "pool": [
                {
                    "model": "m",
                    "engine": "emulated",
                    "hardware": "h100-llama-3.1-8b",
                    "instances": instances,
                }
            ],
            "policy": policy,
            "objectives": {
                "interactive": {"ttft_s": 1.0, "tpot_s": 0.05},
                "task": {"deadline_s": 30.0},
                "batch": {},
            },
            "workload": {"default": "interactive", "mix": MIX},
        }
    )


def simulate(fleet: FleetConfig, rate: float, limit: int, seed: int = 0) -> Columns:
    trace = open_trace("azure-conv-slice")
    simulator = Simulator(fleet, seed)
    simulator.run(ShapedTrace(trace, Shape(limit=limit, rate_rps=rate)).rows())
    return simulator.records.columns()


def test_one_request_alone_takes_what_the_latency_model_says() -> None:
    simulator = Simulator(config(1))
    simulator.run([TraceRow(index=0, arrival_s=0.0, prompt_tokens=100, output_tokens=11)])
    columns = simulator.records.columns()
    (machine,) = simulator.machines.values()
    model = machine.node.instance.latency
    prefill_s = model.step_s(StepShape(0, 0, 100, 5000.0, 100, 1))
    decode_s = model.run_s(StepShape(1, 101, 0, 0.0, 101, 1), 10)
    assert columns.ttft_s[0] == pytest.approx(prefill_s + 0.001, abs=1e-9)
    assert columns.e2e_s[0] == pytest.approx(prefill_s + decode_s + 0.001, abs=1e-9)


def test_equal_seeds_give_equal_runs_to_the_last_digit() -> None:
    first, again, other = (simulate(config(), 120, 200, seed).last_s for seed in (1, 1, 2))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_every_request_is_accounted_for_at_ten_times_the_load() -> None:
    summary = summarize(simulate(config(1), 400, 300)).to_json()
    requests = summary["requests"]
    assert requests["total"] == 300
    assert requests["finished"] + requests["rejected"] == 300


def test_past_its_capacity_the_default_keeps_objectives_that_common_rules_miss() -> None:
    """What the demo shows live, without its noise: order asserted, and a wide gap."""
    common = config(1, admission="always", routing="round-robin", batching="fcfs")
    baseline, ours = (
        summarize(simulate(fleet, 60, 400)).to_json()["attainment"] for fleet in (common, config(1))
    )
    assert ours > baseline + 0.2
