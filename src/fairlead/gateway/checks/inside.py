"""A check on the gateway's own event loop: for those that only wait for somebody else."""

from __future__ import annotations

import inspect

from fairlead.checks.making import BrokenError, make, verdict
from fairlead.checks.protocol import Check, CheckedCall, Verdict
from fairlead.gateway.checks.config import CheckConfig
from fairlead.model import ConfigError


class Inside:
    """Nothing protects the gateway's streams from one that computes."""

    def __init__(self, config: CheckConfig) -> None:
        self._config = config
        self._check: Check | None = None

    async def start(self) -> None:
        """Raises `ConfigError`."""
        try:
            self._check = make(self._config.use, self._config.params)
        except Exception as error:
            raise ConfigError(
                f"the check {self._config.name!r} cannot be made: {type(error).__name__}: {error}"
            ) from error
        if not inspect.iscoroutinefunction(getattr(self._check, "check", None)):
            raise ConfigError(
                f'the check {self._config.name!r} has runs = "loop" and no `async def check`; '
                'write it so, or leave it runs = "process"'
            )

    async def ask(self, call: CheckedCall) -> Verdict:
        """Raises `BrokenError`."""
        assert self._check is not None
        said = self._check.check(call)
        assert inspect.isawaitable(said)
        try:
            found = await said
        except Exception as error:
            raise BrokenError(type(error).__name__) from None
        return verdict(found)

    async def stop(self) -> None:
        pass
