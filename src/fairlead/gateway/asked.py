"""A call as the fleet is asked it."""

from __future__ import annotations

import msgspec

from fairlead.model import Request
from fairlead.text.call_format import CallFormat


class Calls(msgspec.Struct, frozen=True):
    """How calls of tools are found in an answer."""

    format: CallFormat
    names: frozenset[str]
    only_one: bool


class Asked(msgspec.Struct, frozen=True):
    """A call that can be served: its requests, and how its reply shall look."""

    requests: list[Request]
    """The choices of the first prompt, then those of the next."""
    chat: bool
    model: str
    n: int
    """Choices per prompt."""
    stream: bool
    include_usage: bool
    logprobs: bool
    positions: bool
    calls: Calls | None = None
    """Set where the answer may call tools."""

    @property
    def prompt_tokens(self) -> int:
        """Each prompt once, whatever its choices."""
        return sum([request.prompt_tokens for request in self.requests[:: self.n]])
