"""What goes wrong in a scenario, drawn from its seed: the tables of a faults file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any


def draw_faults(seed: int, names: Sequence[str], until_s: float) -> dict[str, list[dict[str, Any]]]:
    """Each kind of fault exists in one scenario of three, and draws from a stream of its own."""
    found: dict[str, list[dict[str, Any]]] = {}
    for kind, make in _MAKERS.items():
        rng = Random(f"{seed} fuzz {kind}")
        if rng.random() < 1 / 3:
            tables = [make(rng, until_s) for _ in range(rng.choice([1, 1, 2]))]
            for table in tables:
                if kind in _OF_ONE and rng.random() < 0.3:
                    table["instance"] = rng.choice(list(names))
            found[kind] = tables
    return found


def _when(rng: Random, until_s: float) -> dict[str, Any]:
    if rng.random() < 0.5:
        return {"at_s": rng.uniform(0, until_s)}
    return {"every_s": rng.uniform(0.2, 1.0) * until_s, "until_s": until_s}


def _death(rng: Random, until_s: float) -> dict[str, Any]:
    return {
        **_when(rng, until_s),
        "silent": rng.random() < 0.3,
        "frames": rng.choice(["arrive", "lost"]),
        "restart": rng.random() < 0.8,
    }


def _leave(rng: Random, until_s: float) -> dict[str, Any]:
    grace_s = rng.choice([0.05, 1.0, 5.0])
    return {**_when(rng, until_s), "grace_s": grace_s, "restart": rng.random() < 0.8}


def _stall(rng: Random, until_s: float) -> dict[str, Any]:
    for_s = rng.choice([0.05, 0.5, 3.0])
    return {**_when(rng, until_s), "for_s": for_s, "process": rng.random() < 0.5}


def _slow(rng: Random, until_s: float) -> dict[str, Any]:
    return {**_when(rng, until_s), "for_s": rng.uniform(0.1, 2.0), "factor": rng.uniform(0.5, 8.0)}


def _partition(rng: Random, until_s: float) -> dict[str, Any]:
    messages = rng.choice(["held", "lost"])
    return {**_when(rng, until_s), "for_s": rng.choice([0.05, 0.5, 6.0]), "messages": messages}


def _messages(rng: Random, until_s: float) -> dict[str, Any]:
    kinds = ("lost", "doubled", "late", "reordered")
    often = {kind: rng.choice([0.0, 0.0, 0.02, 0.2]) for kind in kinds}
    often[rng.choice(kinds)] = rng.choice([0.02, 0.2])
    return {
        "direction": rng.choice(["both", "to-fleet", "to-instance"]),
        "until_s": until_s,
        **often,
        "late_s": rng.choice([0.005, 0.1, 1.0]),
    }


def _gateway_restart(rng: Random, until_s: float) -> dict[str, Any]:
    return {"at_s": rng.uniform(0, until_s), "for_s": rng.choice([0.01, 0.5, 3.0])}


def _hang_up(rng: Random, until_s: float) -> dict[str, Any]:
    return {"share": rng.choice([0.1, 0.6]), "after_s": rng.choice([0.01, 0.2, 1.0])}


def _burst(rng: Random, until_s: float) -> dict[str, Any]:
    return {"at_s": rng.uniform(0, until_s / 2), "for_s": rng.uniform(0.05, 0.3)}


_MAKERS: Mapping[str, Callable[[Random, float], dict[str, Any]]] = {
    "death": _death,
    "leave": _leave,
    "stall": _stall,
    "slow": _slow,
    "partition": _partition,
    "messages": _messages,
    "gateway_restart": _gateway_restart,
    "hang_up": _hang_up,
    "burst": _burst,
}
_OF_ONE = ("death", "leave", "stall", "slow", "partition", "messages")
