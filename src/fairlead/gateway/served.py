"""What a gateway needs to know of a model in order to serve it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fairlead.text.call_format import CallFormat


class PromptEncoder(Protocol):
    """Turns what a client wrote into token ids. `fairlead.text.Tokenizer` is one."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def takes_tools(self) -> bool:
        """Whether the chat template writes down tools."""
        ...

    @property
    def call_format(self) -> CallFormat | None:
        """How the model writes calls of tools; None where it has none, or none that is known."""
        ...

    def has_token(self, text: str) -> bool:
        """Whether this text is always a token of its own."""
        ...

    def encode(self, text: str) -> Sequence[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def encode_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> Sequence[int]:
        """The prompt that the model's chat template makes of a conversation."""
        ...


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model under the name that clients ask for."""

    name: str
    tokenizer: PromptEncoder
    max_context: int
    """Tokens of prompt and output together that one request may reach."""
    block_tokens: int = 16
    """Size of the blocks in which its instances share prefixes; all of them must agree."""
    pools: tuple[str, ...] = ()
    """The pools that serve it. The gateway is ready when each has an instance."""
    text_ids: tuple[int, int] | None = None
    """First and last of a range of token ids that are all plain text, for load generators."""
    passes_chats: bool = False
    """An instance of it may take chats only, so requests carry their messages along."""
    constrains_output: bool = False
    """Some instance of it can hold an answer to a JSON Schema, or to calls of tools."""
    created: int = 0
    """Seconds since 1970, as the API shows it."""
