"""A comparison made up from a few figures, as `summary.json` holds it."""

from __future__ import annotations

from typing import Any

from fairlead.model import BATCH, Objective
from fairlead.workload.curves import curves
from fairlead.workload.records import Ending, RecordColumns, RequestRecord
from fairlead.workload.summary import RunFacts, summarize

INTERACTIVE = Objective("interactive", ttft_s=1.0, tpot_s=0.05)
ROUTING = ("round-robin", "least-load")
BATCHING = ("fcfs", "slack")


def summary(n: int, late: int, tenants: int = 0) -> dict[str, Any]:
    """A run of `n` requests of two classes, of which `late` interactive ones missed."""
    records = [
        RequestRecord(
            f"r{i}",
            arrival_s=float(i),
            ending=Ending.FINISHED,
            objective=INTERACTIVE if i % 2 else BATCH,
            tenant=f"t{i % tenants}" if tenants else "",
            first_token_s=i + (2.0 if i % 2 and i < 2 * late else 0.2),
            last_token_s=i + 3.0,
            prompt_tokens=100,
            output_tokens=50,
            cached_tokens=25,
        )
        for i in range(n)
    ]
    columns = RecordColumns(records).columns()
    facts = RunFacts(trace="traces/a.parquet", fleet="two", policy={"routing": "x"})
    whole = summarize(columns, facts).with_extra(
        simulation={"closed_loop": False, "offered_rps": 1.0},
        curves={**curves(columns), "load": load(n)},
    )
    return whole.to_json()


def load(n: int) -> dict[str, Any]:
    series = {
        "t_s": [float(i) for i in range(n)],
        "running": [i % 7 for i in range(n)],
        "waiting": [0.0] * n,
        "kv_fraction": [0.5] * n,
        "busy": [1.0] * n,
    }
    return {"i0": series, "i1": series}


def figure(mean: float | None, half_width: float | None = None) -> dict[str, Any]:
    return {"mean": mean, "half_width": half_width, "values": [mean]}


def comparison(
    rates: tuple[float | None, ...] = (10.0, 20.0), seeds: int = 1, **changes: Any
) -> dict[str, Any]:
    """Two ways to route and two to batch; the later a variant, the more it misses."""
    cells = []
    for rate in rates:
        for variant in range(4):
            routing, batching = ROUTING[variant // 2], BATCHING[variant % 2]
            found = summary(40, late=2 * variant, **changes)
            width = 0.3 if seeds > 1 else None
            over_seeds = {
                key: figure(found.get(key), width)
                for key in ("goodput_rps", "attainment", "prefix_hit_ratio")
            }
            over_seeds |= {
                f"{time}_{point}": figure(found[time][point])
                for time in ("ttft_s", "tpot_s", "e2e_s")
                for point in ("p50", "p99")
            }
            cells.append(
                {
                    "trace": "traces/a.parquet",
                    "rate_rps": rate,
                    "set": {"policy.routing": routing, "policy.batching": batching},
                    "label": f"{routing} + {batching}",
                    "variant": variant,
                    "over_seeds": over_seeds,
                    "summary": found,
                    "rank": variant + 1,
                    "like_best": variant < 2,
                }
            )
    return {
        "fairlead": "0.1.0",
        "fleet": "two",
        "vary": {"policy.routing": list(ROUTING), "policy.batching": list(BATCHING)},
        "seeds": list(range(seeds)),
        "warmup_s": 0.0,
        "cells": cells,
    }
