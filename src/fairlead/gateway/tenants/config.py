"""What can be set about tenants: the `[tenants]` table of a fleet file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TenantsConfig:
    database: str = ""
    """A file (SQLite), or postgresql://user@host/name."""
    database_file: str = ""
    """A file that holds the above, for a URL with a password in it."""
    journal: str = "fairlead-calls"
    """Beginning of the name of a file on this machine for calls under way: what a gateway had sent
    when it was killed is in there."""
    sync_s: float = 0.5
    """How often the ledger is written, limits are shared with other gateways, and changes of
    tenants and keys are looked for."""
    keep_calls_days: float = 90.0
    """Calls are kept so long; their sums for ever."""

    def __post_init__(self) -> None:
        if bool(self.database) == bool(self.database_file):
            raise ValueError("say either database or database_file")
        if not self.journal:
            raise ValueError("journal must not be empty")
        for name in ("sync_s", "keep_calls_days"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
