"""What can be set about a check: a `[[gateway.checks]]` table of a fleet file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fairlead.fleet.table import read_table
from fairlead.model import ConfigError

RUNS = ("process", "loop")
BROKEN = ("refuse", "allow")


@dataclass(frozen=True, slots=True)
class CheckConfig:
    """One check. Checked when made."""

    name: str
    """In metrics, logs and answers: lower-case letters, digits, dashes."""
    use: str
    """`package.module:Factory`, called with `params`."""
    params: Mapping[str, Any] = field(default_factory=dict)
    runs: str = "process"
    """process: in processes of its own, so that it holds up no stream, and can be killed where it
    hangs. loop: on the gateway's event loop, for a check that only waits for others."""
    processes: int = 1
    """Calls that are checked at once, where it has processes."""
    timeout_s: float = 5.0
    """A call waits no longer for its verdict."""
    when_broken: str = "refuse"
    """What becomes of a call where the check is late, fails, or answers nonsense: refuse (503) or
    allow."""
    start_s: float = 120.0
    """A process must be ready for its first call after this time."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9-]{1,32}", self.name):
            raise ValueError(
                f"name must be 1 to 32 lower-case letters, digits and dashes, got {self.name!r}"
            )
        if not re.fullmatch(r"[\w.]+:\w+", self.use):
            raise ValueError(f"use must look like package.module:Factory, got {self.use!r}")
        for name, known in (("runs", RUNS), ("when_broken", BROKEN)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be {' or '.join(known)}, got {getattr(self, name)}")
        if not 1 <= self.processes <= 64:
            raise ValueError(f"processes must be 1 to 64, got {self.processes}")
        for name in ("timeout_s", "start_s"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


def read_checks(tables: object) -> tuple[CheckConfig, ...]:
    """The tables of a fleet file, in their order. Raises `ConfigError`."""
    if not isinstance(tables, Sequence) or isinstance(tables, str):
        raise ConfigError("gateway.checks must be tables; begin each with [[gateway.checks]]")
    checks = tuple(read_table(CheckConfig, t, f"gateway.checks.{i}") for i, t in enumerate(tables))
    names = [check.name for check in checks]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ConfigError(f"gateway.checks: two are called {', '.join(sorted(twice))}")
    return checks
