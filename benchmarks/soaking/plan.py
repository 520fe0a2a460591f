"""What a soak does, and when: drawn from its seed before it begins."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

WORKER_KILLS_EVERY_S = 20.0
GATEWAY_KILLS_EVERY_S = 45.0
"""On average, while gateways are killed at all."""
FIRST_KILL_S = 8.0
DEADLY_SHARE = 0.5
"""In this part of the run gateways are killed. In the rest one has to live, so that it can be seen
whether its memory stays flat; workers die all the time."""
SEATS = 16
"""Sequences that an instance runs at once."""
SPEED = 0.25
"""Of an H100: slow enough that two cores carry the whole fleet."""


@dataclass(frozen=True, slots=True)
class Kill:
    at_s: float
    gateway: bool
    """Else a worker."""
    away_s: float
    """How long a gateway stays away before it is started again."""


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    duration_s: float
    instances: int
    load: float
    """Of the fleet's seats, the part that clients keep taken."""
    lines: int
    """Of each offline batch."""
    kills: tuple[Kill, ...]

    @property
    def clients(self) -> int:
        return max(round(self.load * self.instances * SEATS), 1)


def make_plan(seed: int, duration_s: float, instances: int, load: float, lines: int) -> Plan:
    kills = [
        *_kills(Random(f"soak {seed} workers"), WORKER_KILLS_EVERY_S, duration_s, gateway=False),
        *_kills(
            Random(f"soak {seed} gateways"),
            GATEWAY_KILLS_EVERY_S,
            DEADLY_SHARE * duration_s,
            gateway=True,
        ),
    ]
    kills.sort(key=lambda kill: (kill.at_s, kill.gateway))
    return Plan(seed, duration_s, instances, load, lines, tuple(kills))


def _kills(rng: Random, every_s: float, until_s: float, *, gateway: bool) -> list[Kill]:
    """At least one, so that a short run means something."""
    found: list[Kill] = []
    at_s = FIRST_KILL_S + rng.random() * every_s / 2
    while at_s < until_s or not found:
        found.append(Kill(min(at_s, until_s), gateway, rng.uniform(0.0, 2.0)))
        at_s += every_s * rng.uniform(0.5, 1.5)
    return found
