"""The `[simulation]` table of a fleet file: what the world between the machines is like."""

from __future__ import annotations

from dataclasses import dataclass

from fairlead.fleet.config import FleetConfig
from fairlead.fleet.table import read_table


@dataclass(frozen=True, slots=True)
class Settings:
    """Defaults are those of a gateway and its workers on one quiet local network."""

    delay_s: float = 0.0005
    """One way between gateway and instance."""
    jitter_s: float = 0.0002
    """A message takes up to this much longer, evenly; one link keeps messages in order."""
    report_s: float = 0.5
    """Between two reports of an instance."""
    tick_s: float = 1.0
    """Between two ticks of the fleet."""
    gateway_s: float = 0.0
    """From a request's arrival to the moment the fleet decides about it: HTTP and tokenisation."""
    gateway_s_per_token: float = 0.0
    """The same, for each token of its prompt."""
    client_s: float = 0.0
    """From a token's delivery to its client's reading it."""
    start_up_s: float = 30.0
    """How long a lost instance takes to be up again: process, weights, memory."""
    handoff_bytes_per_s: float = 12.5e9
    """What an instance sends to others in a second: 100 Gbit/s."""
    max_tokens: int = 4096
    """Output tokens that a request allows itself where the trace does not say: schedulers may look
    at this, and not at the true length. 0 sends the true length, as `fairlead replay` does."""

    def __post_init__(self) -> None:
        for name in ("report_s", "tick_s", "handoff_bytes_per_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name):g}")
        for name in self.__slots__:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name):g}")


def read_settings(config: FleetConfig) -> Settings:
    """Raises `ConfigError`."""
    return read_table(Settings, config.simulation, "simulation")
