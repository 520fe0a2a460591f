"""What stays the same from one life of a server to the next."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fairlead.worker.link import Address
from fairlead.worker.opaque.answer import Words
from fairlead.worker.opaque.api import Api
from fairlead.worker.opaque.dialect import Texts


class Vocabulary(Words, Texts, Protocol):
    """What is needed of a tokenizer. `worker.words.Vocabulary` is one."""

    @property
    def max_context(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a stream may be silent before it counts as stuck."""

    first_token_s: float = 300.0
    """A server may have a queue of its own."""
    next_token_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Setting:
    api: Api
    words: Vocabulary
    gateway: Address
    token: str
    tell: Callable[[str], None]
    patience: Patience = Patience()
    kv_events: str | None = None
    """Where the server publishes events of its cache, over ZeroMQ."""
    kv_replay: str | None = None
    """Where it repeats them."""
    tls: ssl.SSLContext | None = None
    """What the gateway is dialled with; None for plain TCP."""
