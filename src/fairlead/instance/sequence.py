"""A request while it lives inside an instance."""

from __future__ import annotations

from collections.abc import Sequence as Seq

from fairlead.model import BlockHash, Objective, Request, RequestId, TenantId


class Sequence:
    """Known tokens, how many of them are computed, and the blocks that hold their KV.

    There are no phases: a sequence has `n_computed` of `n_known` tokens, and steps let it catch
    up. Only its instance changes it; executors and policies read.
    """

    __slots__ = (
        "admitted",
        "arrival_s",
        "attempt",
        "blocks",
        "cached_tokens",
        "first_token_s",
        "hashes",
        "id",
        "max_tokens",
        "n_computed",
        "n_known",
        "n_preemptions",
        "n_produced",
        "n_published",
        "objective",
        "priority",
        "prompt_tokens",
        "queued",
        "request",
        "tenant",
        "token_ids",
    )

    def __init__(self, request: Request, attempt: int, produced: Seq[int], queued: int) -> None:
        self.request = request
        self.id: RequestId = request.id
        self.attempt = attempt
        self.objective: Objective = request.objective
        self.priority = request.priority
        self.tenant: TenantId = request.tenant
        self.arrival_s = request.arrival_s
        self.prompt_tokens = request.prompt_tokens
        self.max_tokens = request.max_tokens
        self.token_ids: list[int] = [*request.token_ids, *produced]
        """Prompt, then output. Where the request came without its prompt (a simulation) this
        holds output only, and so does not line up with `n_known`."""
        self.n_produced = len(produced)
        self.n_known = request.prompt_tokens + len(produced)
        self.n_computed = 0
        self.blocks: list[int] = []
        """Block ids in order; block `i` holds tokens `i * block_tokens` onwards."""
        self.n_published = 0
        """Leading blocks that the prefix cache can find."""
        self.hashes: list[BlockHash] = list(request.block_hashes)
        """Chain hashes of the known full blocks, as far as they are known."""
        self.cached_tokens = 0
        """Tokens found in the prefix cache at its first admission."""
        self.first_token_s: float | None = None
        self.admitted = 0
        self.queued = queued
        self.n_preemptions = 0

    @property
    def n_uncomputed(self) -> int:
        return self.n_known - self.n_computed

    @property
    def held_blocks(self) -> int:
        return len(self.blocks)

    def __repr__(self) -> str:
        return (
            f"<Sequence {self.id}#{self.attempt} computed={self.n_computed}/{self.n_known}"
            f" produced={self.n_produced}/{self.max_tokens} blocks={len(self.blocks)}>"
        )
