"""The hash of every action that a fleet took: equal for equal seeds."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from hashlib import blake2b

from fairlead.model import (
    Action,
    Cancel,
    Complete,
    Deliver,
    Dispatch,
    Handoff,
    Reject,
    Scale,
    SetRole,
    Stop,
    TellCache,
)

WORDS = 4000
"""Words that are hashed at a time."""


class Digest:
    """Hashes actions in the order in which they were taken, with their times to the last digit."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)
        self._words: list[str] = []
        self._numbers = array("q")
        self._times = array("d")

    def add(self, actions: Sequence[Action], now: float) -> None:
        for action in actions:
            self._times.append(now)
            self._add(action)
        if len(self._words) > WORDS:
            self._flush()

    def hexdigest(self) -> str:
        self._flush()
        return self._hash.hexdigest()

    def _add(self, action: Action) -> None:
        words, numbers = self._words, self._numbers
        if type(action) is Deliver:
            for row in action.rows:
                words.append(row.request)
                numbers.append(row.start)
                numbers.append(len(row.token_ids))
        elif type(action) is Dispatch:
            words.append(action.instance)
            words.append(action.request.id)
            numbers.append(action.attempt)
        elif type(action) is Complete:
            words.append(action.request)
            words.append(action.why.value)
        elif type(action) is Reject:
            words.append(action.request)
            words.append(action.why.value)
            self._times.append(action.retry_after_s or -1.0)
        elif type(action) is Handoff:
            words.append(action.target)
            words.append(action.request)
            numbers.append(action.to_attempt)
        elif type(action) is Scale:
            words.append(action.pool)
            numbers.append(action.n)
        elif type(action) is Stop or type(action) is TellCache:
            words.append(action.instance)
        elif type(action) is SetRole:
            words.append(action.instance)
            words.append(action.role.value)
        else:
            assert type(action) is Cancel, f"{action!r} has no place in the digest"
            words.append(action.instance)
            words.append(action.request)
            numbers.append(action.attempt)

    def _flush(self) -> None:
        self._hash.update(self._times.tobytes())
        self._hash.update(self._numbers.tobytes())
        self._hash.update(" ".join(self._words).encode())
        self._words.clear()
        del self._numbers[:], self._times[:]
