"""The hash of every action that a fleet took: equal for equal seeds, on any machine."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from fairlead.model import Action, Cancel, Complete, Deliver, Dispatch, Reject

ENTRIES = 1000
"""Actions that are hashed at a time."""


class Digest:
    """Hashes actions in the order in which they were taken, with their times to the last digit."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)
        self._entries: list[tuple[Any, ...]] = []

    def add(self, actions: Sequence[Action], now: float) -> None:
        entries = self._entries
        for action in actions:
            entries.append(_entry(action, now))
        if len(entries) > ENTRIES:
            self._flush()

    def hexdigest(self) -> str:
        self._flush()
        return self._hash.hexdigest()

    def _flush(self) -> None:
        self._hash.update(repr(self._entries).encode())
        self._entries.clear()


def _entry(action: Action, now: float) -> tuple[Any, ...]:
    if type(action) is Deliver:
        return now, [(row.request, row.start, len(row.token_ids)) for row in action.rows]
    if type(action) is Dispatch:
        return now, action.instance, action.request.id, action.attempt
    if type(action) is Complete:
        return now, action.request, action.why.value
    if type(action) is Reject:
        return now, action.request, action.why.value, action.retry_after_s
    assert type(action) is Cancel, f"{action!r} has no place in the digest"
    return now, action.instance, action.request, action.attempt, action.why.value
