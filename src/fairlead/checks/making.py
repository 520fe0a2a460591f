"""How a check is made, and what it said is read."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from fairlead.checks.protocol import Check, Verdict


class BrokenError(Exception):
    """A check gave no verdict. The message is a word for logs and metrics, without any text."""


def make(use: str, params: Mapping[str, Any]) -> Check:
    """The check itself. Raises whatever its factory does."""
    module, _, name = use.partition(":")
    return cast(Check, getattr(importlib.import_module(module), name)(**params))


def verdict(value: object) -> Verdict:
    """What a check has said. Raises `BrokenError` where that is no verdict."""
    try:
        # Through JSON's types and back: what a check made up is what it says it is.
        said: Verdict = msgspec.convert(msgspec.to_builtins(value), Verdict)
        return said
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        raise BrokenError("nonsense") from None
