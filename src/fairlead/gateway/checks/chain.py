"""All checks of a gateway, asked one after the other before a call is served."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from fairlead.checks.making import BrokenError
from fairlead.checks.protocol import Allow, CheckedCall, Refuse, Verdict
from fairlead.gateway.checks.apart import Apart
from fairlead.gateway.checks.config import CheckConfig
from fairlead.gateway.checks.figures import CheckFigures
from fairlead.gateway.checks.inside import Inside
from fairlead.gateway.checks.runner import Runner
from fairlead.gateway.schemas import ChatMessage
from fairlead.model import RequestError

MAX_REASON_CHARS = 500
RETRY_AFTER_S = 1.0
Messages = list[dict[str, Any]]
_log = logging.getLogger("fairlead.gateway")


class Checks:
    """Asks each for its verdict; the next one sees what the one before has replaced."""

    def __init__(self, configs: Sequence[CheckConfig] = ()) -> None:
        self.figures = CheckFigures([config.name for config in configs])
        self._members = [_Member(config, self.figures) for config in configs]

    def __bool__(self) -> bool:
        return bool(self._members)

    async def start(self) -> None:
        """Raises `ConfigError` where one cannot be made."""
        for done, member in enumerate(self._members):
            try:
                await member.runner.start()
            except BaseException:
                await asyncio.gather(*[other.runner.stop() for other in self._members[:done]])
                raise

    async def stop(self) -> None:
        await asyncio.gather(*[member.runner.stop() for member in self._members])

    async def look(self, tenant: str, model: str, messages: Messages) -> Messages:
        """The messages that may be served. Raises `RequestError` where they may not."""
        for member in self._members:
            messages = await member.look(CheckedCall(tenant, model, messages))
        return messages


NO_CHECKS = Checks()


class _Member:
    def __init__(self, config: CheckConfig, figures: CheckFigures) -> None:
        self.runner: Runner = Inside(config) if config.runs == "loop" else Apart(config)
        self._config = config
        self._figures = figures
        self._is_broken = False

    async def look(self, call: CheckedCall) -> Messages:
        began_s = time.monotonic()
        outcome, messages, refusal = await self._judge(call)
        self._figures.add(self._config.name, outcome, time.monotonic() - began_s)
        if refusal is not None:
            raise refusal
        return messages

    async def _judge(self, call: CheckedCall) -> tuple[str, Messages, RequestError | None]:
        """What to count, what to go on with, and the refusal if there is one."""
        try:
            said = await _in_time(self.runner.ask(call), self._config.timeout_s)
            if isinstance(said, Refuse):
                self._works()
                return "refused", call.messages, self._refusal(said.reason)
            if isinstance(said, Allow):
                self._works()
                return "allowed", call.messages, None
            replaced = _fitting(said.messages, call.messages)
            self._works()
            return "replaced", replaced, None
        except BrokenError as error:
            self._broke(str(error))
            refusal = None if self._config.when_broken == "allow" else self._unavailable()
            return "late" if str(error) == "timeout" else "failed", call.messages, refusal

    def _refusal(self, reason: str) -> RequestError:
        return RequestError(
            f"refused by the check {self._config.name!r}: {reason[:MAX_REASON_CHARS]}",
            code="content_filter",
        )

    def _unavailable(self) -> RequestError:
        return RequestError(
            f"the check {self._config.name!r}, which every call must pass, gives no verdict; try "
            "again later",
            status=503,
            code="check_unavailable",
            kind="server_error",
            retry_after_s=RETRY_AFTER_S,
        )

    def _works(self) -> None:
        if self._is_broken:
            _log.warning("check.works check=%s", self._config.name)
        self._is_broken = False

    def _broke(self, why: str) -> None:
        """Said when it begins; how often it happens is in the metrics."""
        if not self._is_broken:
            _log.warning("check.broken check=%s why=%s", self._config.name, why)
        self._is_broken = True


async def _in_time(asking: Any, timeout_s: float) -> Verdict:
    """Even of a check that does not let itself be cancelled. Raises `BrokenError`."""
    task: asyncio.Task[Verdict] = asyncio.ensure_future(asking)
    try:
        await asyncio.wait([task], timeout=timeout_s)
    finally:
        if not task.done():
            task.add_done_callback(_forget)
            task.cancel()
    if not task.done():
        raise BrokenError("timeout")
    return task.result()


def _forget(task: asyncio.Task[Verdict]) -> None:
    """Nobody waits for it any more, whatever it says."""
    if not task.cancelled():
        task.exception()


def _fitting(new: Messages, old: Messages) -> Messages:
    """What a check has put in the place of messages. Raises `BrokenError` where it does not fit."""
    try:
        msgspec.convert(new, list[ChatMessage])
    except msgspec.ValidationError:
        raise BrokenError("nonsense") from None
    alike = len(new) == len(old) and all(
        isinstance(mine.get("content"), str) and mine.get("role") == theirs["role"]
        for mine, theirs in zip(new, old, strict=False)
    )
    if not alike:
        raise BrokenError("nonsense")
    return new
