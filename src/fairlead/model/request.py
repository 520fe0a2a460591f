"""What a client asked for."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from msgspec import Struct

from fairlead.model.ids import BlockHash, ProgramId, RequestId, TenantId
from fairlead.model.objective import BATCH, Objective


class Sampling(Struct, frozen=True, gc=False, omit_defaults=True):
    """How the next token is drawn. Names and meanings are those of the OpenAI API and vLLM."""

    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """Candidates kept; 0 keeps all."""
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    """Together with a token's position it is the whole state of the generator (always set: the
    gateway draws one where the client gave none), so that a sequence continues identically
    elsewhere."""
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    logprobs: int | None = None
    """Alternatives to report beside each token's own log-probability; None reports none."""
    ignore_eos: bool = False
    min_tokens: int = 0
    json_schema: str = ""
    """What the whole output must be, as a JSON Schema; empty: any text."""
    grammar: str = ""
    """The same as a grammar, in Lark as llguidance reads it, where a schema cannot say it."""

    @property
    def constrained(self) -> bool:
        """Whether the output may not be any text."""
        return bool(self.json_schema or self.grammar)


GREEDY = Sampling(temperature=0.0)


class Request(Struct, frozen=True, gc=False, omit_defaults=True):
    """One continuation that a client asked for. An HTTP call with `n` choices is `n` requests
    that share their prompt blocks."""

    id: RequestId
    arrival_s: float
    """When it reached the gateway, on the gateway's clock."""
    prompt_tokens: int
    max_tokens: int
    """Most tokens it may produce, at least 1."""
    objective: Objective = BATCH
    model: str = ""
    tenant: TenantId = TenantId("")
    user: str = ""
    priority: int = 0
    """Lower runs earlier, within a class."""
    program: ProgramId | None = None
    expected_output_tokens: int | None = None
    """The client's own guess, a hint."""
    sampling: Sampling = GREEDY
    token_ids: Sequence[int] = ()
    """The prompt. Empty in a simulation, where only its length and its blocks are known."""
    block_hashes: tuple[BlockHash, ...] = ()
    """Salted chain hashes of the prompt's full blocks, first to last."""
    cache_salt: bytes = b""
    """What the hashes are salted with: the tenant, unless it shares its cache."""
    share_weight: float = 1.0
    """Of its tenant: twice the weight is twice the share of a fleet that is full."""
    chat: bytes = b""
    """What the prompt was made of, as a JSON object with `messages` and perhaps `tools`, where an
    instance of the model may take chats only."""
    chat_only: bool = False
    """The prompt is no more than an estimate of that: whoever takes no chats cannot answer it."""
    call: str = ""
    """What the client called once, where that has several choices: empty where it has one."""
    call_format: str = ""
    """How calls of tools are written in the answer's text; empty where there are none."""
    embeds: bool = False
    """The vector of the prompt is wanted, and no text: it comes with the one token that such a
    request produces, which nobody looks at."""


class FinishReason(Enum):
    """Why a sequence ended by itself. Values are those of the OpenAI API."""

    STOP = "stop"
    LENGTH = "length"
