"""Keys of `[gateway]` that concern the process around a gateway, not the gateway itself."""

from __future__ import annotations

from dataclasses import dataclass

from fairlead.cli.voice import FORMATS
from fairlead.observe.otlp import traces_address


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """Keys of `[gateway]` beside those of `GatewayConfig`."""

    token_file: str = ""
    """Holds the workers' secret; empty draws one that only local workers get."""
    default_class: str = ""
    """Objective class of requests that name none; empty takes `workload.default`, or the file's
    first."""
    drain_s: float = 60.0
    """Longest time that a drain waits for what is under way."""
    debug_invariants: bool = False
    """Checks every event and action against `docs/invariants.md`, and dies at a violation."""
    event_log: str = ""
    """A file that gets every event and decision (lengths, times and reasons, no text), for
    `fairlead story` and `fairlead simulate --from-log`; empty writes none."""
    event_log_gib: float = 2.0
    """What the log and its older parts may take; beyond it the oldest eighth goes. A gigabyte holds
    about 1.5 million requests."""
    log_format: str = "text"
    """text: prose for people. json: a line of JSON each on stderr, with what happened to instances
    and to requests that went wrong."""
    otlp: str = ""
    """Where an OpenTelemetry collector takes OTLP over HTTP, such as http://127.0.0.1:4318; empty
    sends no traces. Needs `fairlead[otel]`."""
    max_workers: int = 64
    """Workers of all pools that this machine runs at once, whoever wants more."""

    def __post_init__(self) -> None:
        if self.log_format not in FORMATS:
            raise ValueError(
                f"log_format must be one of {', '.join(FORMATS)}, got {self.log_format!r}"
            )
        if not self.event_log_gib > 0:
            raise ValueError(f"event_log_gib must be positive, got {self.event_log_gib:g}")
        if self.otlp:
            traces_address(self.otlp)
