"""The hash of every action that a fleet took: equal for equal seeds, on any machine."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from fairlead.model import Action, Cancel, Complete, Deliver, Dispatch, Reject

LINES = 1000
"""Actions that are hashed at a time."""


class Digest:
    """Hashes actions in the order in which they were taken, with their times to the last digit."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)
        self._lines: list[str] = []

    def add(self, actions: Sequence[Action], now: float) -> None:
        lines = self._lines
        lines.append(repr(now))
        for action in actions:
            lines.append(_line(action))
        if len(lines) > LINES:
            self._flush()

    def hexdigest(self) -> str:
        self._flush()
        return self._hash.hexdigest()

    def _flush(self) -> None:
        self._hash.update("\n".join(self._lines).encode())
        self._lines.clear()


def _line(action: Action) -> str:
    if type(action) is Deliver:
        return ",".join([f"{row.request} {row.start} {len(row.token_ids)}" for row in action.rows])
    if type(action) is Dispatch:
        return f"{action.instance} {action.request.id} {action.attempt}"
    if type(action) is Complete:
        return f"{action.request} {action.why.value}"
    if type(action) is Reject:
        return f"{action.request} {action.why.value} {action.retry_after_s!r}"
    assert type(action) is Cancel, f"{action!r} has no line in the digest"
    return f"{action.instance} {action.request} {action.attempt} {action.why.value}"
