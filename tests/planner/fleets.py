"""A small fleet and a small trace that the planner's tests share."""

from __future__ import annotations

from typing import Any

from fairlead.fleet.config import FleetConfig, read_config
from fairlead.planner.cell import Cell
from fairlead.planner.source import TraceSource
from fairlead.workload.shape import Shape

TRACE = TraceSource("azure-conv-slice")


def config(routing: str = "round-robin", batching: str = "fcfs", **changes: Any) -> FleetConfig:
    tables: dict[str, Any] = {
        "pool": [
            {
                "name": "h100",
                "model": "llama-3.1-8b",
                "engine": "emulated",
                "hardware": "h100-llama-3.1-8b",
                "instances": 2,
            }
        ],
        "policy": {"routing": routing, "batching": batching, "admission": "always"},
        "objectives": {"interactive": {"ttft_s": 1.0, "tpot_s": 0.05}, "batch": {}},
        "workload": {"default": "interactive", "mix": {"batch": 0.3}},
    }
    return read_config({**tables, **changes})


def cell(rate_rps: float | None = 20.0, limit: int = 40, **changes: Any) -> Cell:
    fields: dict[str, Any] = {
        "trace": TRACE,
        "shape": Shape(limit=limit, rate_rps=rate_rps),
        "config": config(),
        "fleet": "two",
    }
    return Cell(**{**fields, **changes})
