"""Small fleets and traces that the tests of the simulator share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any

from fairlead.fleet.config import FleetConfig, read_config
from fairlead.simulate.faulty import FaultySimulator
from fairlead.simulate.read_faults import make_faults
from fairlead.simulate.watch import Watch
from fairlead.workload.records import Columns
from fairlead.workload.trace import TraceRow


def config(
    policy: Mapping[str, str] | None = None,
    pool: Mapping[str, Any] | None = None,
    simulation: Mapping[str, Any] | None = None,
) -> FleetConfig:
    """Three instances; nothing about the network is random."""
    return read_config(
        {
            "simulation": {"jitter_s": 0, "max_tokens": 0, **(simulation or {})},
            "pool": [
                {
                    "name": "p",
                    "model": "m",
                    "engine": "emulated",
                    "hardware": "h100-llama-3.1-8b",
                    "instances": 3,
                    "block_tokens": 4,
                    "n_blocks": 3000,
                    "max_sequences": 8,
                    **(pool or {}),
                }
            ],
            "policy": {"admission": "always", "routing": "round-robin", "batching": "fcfs"}
            | dict(policy or {}),
            "objectives": {
                "interactive": {"ttft_s": 0.5, "tpot_s": 0.02},
                "task": {"deadline_s": 2.0},
                "batch": {},
            },
            "workload": {"default": "batch", "mix": {"interactive": 0.4, "task": 0.3}},
        }
    )


def row(index: int, arrival_s: float = 0.0, prompt: int = 20, output: int = 50) -> TraceRow:
    return TraceRow(index=index, arrival_s=arrival_s, prompt_tokens=prompt, output_tokens=output)


def crowd(seed: int, n: int, rate_per_s: float, most: int = 90) -> list[TraceRow]:
    """Poisson arrivals of all lengths up to `most`; two of three share a prefix with others.
    Three tenants in turn."""
    rng, time_s, rows = Random(f"{seed} crowd"), 0.0, []
    shared = [[1000 * group + i for i in range(30)] for group in range(1, 3)]
    for i in range(n):
        time_s += rng.expovariate(rate_per_s)
        prompt = rng.randint(1, most)
        own = [10**6 * (i + 1) + j for j in range(prompt // 8)]
        common = rng.choice([[], *shared])[: rng.randint(0, len(own))]
        rows.append(
            TraceRow(
                index=i,
                arrival_s=time_s,
                prompt_tokens=prompt,
                output_tokens=rng.randint(1, most),
                hash_ids=(*common, *own[len(common) :]),
                hash_block_tokens=8,
                tenant=f"t{i % 3}",
            )
        )
    return rows


def watched(
    fleet: FleetConfig,
    rows: Iterable[TraceRow],
    faults: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    *,
    seed: int = 0,
    observers: Sequence[Any] = (),
    **named: Any,
) -> tuple[FaultySimulator, Columns]:
    """Plays the rows with every checker on."""
    watch = Watch()
    simulator = FaultySimulator(
        fleet,
        seed,
        make_faults({kind: list(tables) for kind, tables in (faults or {}).items()}),
        on_restart=(watch.restarted,),
        observers=(*observers, watch.observe),
        **named,
    )
    watch.simulator = simulator
    simulator.run(rows)
    return simulator, simulator.records.columns()
