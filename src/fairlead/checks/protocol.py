"""What a check is asked, and what it may say. These names are promises."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec


class Allow(msgspec.Struct, frozen=True, tag=True):
    """Go on as it is."""


class Refuse(msgspec.Struct, frozen=True, tag=True):
    """The call is a 400."""

    reason: str
    """Its client reads it, and nobody else."""


class Replace(msgspec.Struct, frozen=True, tag=True):
    """Go on with these messages instead."""

    messages: list[dict[str, Any]]
    """As many as there were, in the same form."""


Verdict = Allow | Refuse | Replace


class CheckedCall(msgspec.Struct, frozen=True):
    """A call that has not been served yet."""

    tenant: str
    """Empty where there are none."""
    model: str
    messages: list[dict[str, Any]]
    """A chat as the model is to get it: `role` and `content` (always text), and for calls of tools
    `tool_calls`, `tool_call_id`, `name`, as OpenAI has them. A prompt of `/v1/completions`, and an
    input of `/v1/embeddings`, is a message of the user's."""

    @property
    def texts(self) -> list[str]:
        """All that is written in it, arguments of tool calls too."""
        arguments = [
            call["function"]["arguments"]
            for message in self.messages
            for call in message.get("tool_calls", ())
        ]
        return [message["content"] for message in self.messages] + arguments

    def changed(self, change: Callable[[str], str]) -> Verdict:
        """The same call with every content changed so: `Allow` where that changes nothing."""
        messages = [{**m, "content": change(m["content"])} for m in self.messages]
        return Allow() if messages == self.messages else Replace(messages)


class Check(Protocol):
    """Made once, and asked once for each call that passed the checks before it."""

    def check(self, call: CheckedCall) -> Verdict | Awaitable[Verdict]:
        """May be a plain function, or with `async`; on the event loop only the latter."""
        ...
