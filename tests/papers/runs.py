"""What the papers' experiments share: one instance, and clients who ask again when answered."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from fairlead.fleet.config import FleetConfig, read_config
from fairlead.workload.trace import TraceRow


def one_instance(
    batching: str,
    params: dict[str, Any] | None = None,
    *,
    objective: dict[str, float],
    max_tokens: int = 4096,
    **pool: Any,
) -> FleetConfig:
    """A single A100 with an 8B model under the policy, nobody turned away."""
    instance = {
        "model": "m",
        "engine": "emulated",
        "hardware": "a100-llama-3.1-8b",
        "max_waiting": 100_000,
    }
    return read_config(
        {
            "pool": [{**instance, **pool}],
            "policy": {
                "admission": "always",
                "routing": "round-robin",
                "batching": batching,
                "params": {"batching": params or {}},
            },
            "objectives": {"promised": objective},
            "simulation": {"max_tokens": max_tokens},
        }
    )


class Clients:
    """`n_clients` who each ask, read the whole answer, and ask again, `total` requests in all.

    Request `i` is the same whoever sends it and whenever: policies are compared on equal work.
    """

    def __init__(self, n_clients: int, total: int, median_output: int, spread: float) -> None:
        self._n_clients = n_clients
        self._total = total
        self._median_output = median_output
        self._spread = spread
        self._asked = 0

    def rows(self) -> Iterator[TraceRow]:
        for i in range(self._n_clients):
            yield self._next(0.05 * i)

    def follow(self, row: TraceRow, ended_s: float) -> TraceRow | None:
        return self._next(ended_s) if self._asked < self._total else None

    def _next(self, arrival_s: float) -> TraceRow:
        i = self._asked
        self._asked += 1
        draw = Random(f"request {i}")
        output = round(self._median_output * draw.lognormvariate(0.0, self._spread))
        return TraceRow(i, arrival_s, draw.randrange(50, 250), min(max(output, 1), 4096))
