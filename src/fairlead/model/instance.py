"""An instance as others know it: what it is, and what it last said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from msgspec import Struct

from fairlead.model.ids import BlockHash, InstanceId, RequestId


class Role(Enum):
    MIXED = "mixed"
    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """What does not change while an instance lives. A restart is a new incarnation."""

    id: InstanceId
    pool: str
    model: str
    n_blocks: int
    """KV blocks in all."""
    block_tokens: int = 16
    max_sequences: int = 256
    """Sequences that may share one step."""
    max_waiting: int = 1024
    """Sequences that may wait inside for a seat in the batch; beyond it the instance refuses.
    Bounds memory, and the time a request is stuck where no router can help it any more. With 0
    they all wait in the fleet."""
    max_context: int = 8192
    """Tokens of prompt and output together that one sequence may reach."""
    role: Role = Role.MIXED
    urgent_first: bool = False
    """Waiting sequences enter by when they are due, those already late and batch work last;
    otherwise in order of arrival. Follows from its batching policy; predictions build on it."""
    latency: Mapping[str, float] = field(default_factory=dict)
    """Coefficients of its latency model, see `fairlead.latency`."""
    kv_bytes_per_token: int = 0
    """What a hand-off has to carry; 0 where the engine does not say."""
    handoff_bytes_per_s: float = 1e9
    """What it sends to other instances in a second, all hand-offs together."""
    address: str = ""
    """HOST:PORT where other instances bring sequences to; empty where it takes none."""
    certificate: str = ""
    """SHA-256, in hex, of what it shows there; empty where that is not TLS."""
    hardware: str = ""
    price_per_hour: float = 0.0
    incarnation: str = ""


class Report(Struct, frozen=True, gc=False):
    """An instance's picture of itself; replaces the shadow's estimate from `as_of_s` on."""

    instance: InstanceId
    as_of_s: float
    """When the picture was taken, on the gateway's clock; one older than the last is ignored."""
    free_blocks: int
    """Blocks that could be given out now without evicting a cached prefix."""
    cached_blocks: int
    """Blocks that hold a prefix nobody uses now; they are evicted when needed."""
    running: int
    waiting: int
    queued_tokens: int
    """Known tokens not yet computed, of waiting and running sequences; prefixes left out that were
    cached when they got in line."""
    context_tokens: int
    """Tokens whose KV is held by running sequences."""
    requests: tuple[tuple[RequestId, int], ...]
    """Every sequence inside, with the attempt it belongs to: settles the fleet's ledger."""
    slowdown: float = 1.0
    """Measured over predicted step time, lately."""
    stored: tuple[BlockHash, ...] = ()
    """Prefix blocks that became findable since the last report; or all there are."""
    evicted: tuple[BlockHash, ...] = ()
    """Prefix blocks that are gone since the last report."""
    cache_events: int | None = None
    """Blocks stored and evicted since the incarnation began, those told here the last of them: a
    report that does not follow on the one before shows that some were lost. None where the engine
    tells of none."""
    whole_cache: bool = False
    """`stored` is everything that can be found, and not what is new."""
    busy_s: float = 0.0
    """Seconds spent in steps since the incarnation began."""
    preemptions: int = 0
    prompt_tokens: int = 0
    """Prompt tokens of all sequences that ever entered."""
    hit_tokens: int = 0
    """Of those, found in the prefix cache."""
