"""Where a check runs: what both ways have in common."""

from __future__ import annotations

from typing import Protocol

from fairlead.checks.protocol import CheckedCall, Verdict


class Runner(Protocol):
    """One check, wherever it runs."""

    async def start(self) -> None:
        """Raises `ConfigError` where it cannot be made."""
        ...

    async def ask(self, call: CheckedCall) -> Verdict:
        """Raises `BrokenError`."""
        ...

    async def stop(self) -> None: ...
