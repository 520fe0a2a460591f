"""A request while it lives inside an instance."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import TYPE_CHECKING

from fairlead.model import BlockHash, Objective, Request, RequestId, TenantId

if TYPE_CHECKING:
    from fairlead.instance.decoding import Decoding


class Sequence:
    """Known tokens, how many of them are computed, and the blocks that hold their KV.

    There are no phases: a sequence has `n_computed` of `n_known` tokens, and steps let it catch
    up. Only its instance changes it; executors and policies read. While it decodes with the rest
    of the batch nothing is written here at all: its counts are what they were when it joined plus
    the iterations since.
    """

    __slots__ = (
        "_blocks",
        "_computed",
        "_known",
        "_last_token_s",
        "admitted",
        "arrival_s",
        "attempt",
        "cached_tokens",
        "decoding",
        "first_token_s",
        "hashes",
        "id",
        "limit",
        "max_tokens",
        "n_preemptions",
        "n_published",
        "n_told",
        "objective",
        "owner",
        "priority",
        "prompt_tokens",
        "queued",
        "request",
        "tenant",
        "token_ids",
        "wanted_tokens",
    )

    def __init__(self, request: Request, attempt: int, produced: Seq[int], queued: int) -> None:
        self.request = request
        self.id: RequestId = request.id
        self.attempt = attempt
        self.objective: Objective = request.objective
        self.priority = request.priority
        self.tenant: TenantId = request.tenant
        self.owner = request.cache_salt
        """Whose its cached blocks are: tenants that share prefixes are one owner."""
        self.arrival_s = request.arrival_s
        self.prompt_tokens = request.prompt_tokens
        self.max_tokens = request.max_tokens
        self.token_ids: list[int] = [*request.token_ids, *produced]
        """Prompt, then output; where tokens are not known (a simulation) not all of `n_known`."""
        self.decoding: Decoding | None = None
        """The group it decodes with; None while it waits or catches up."""
        self._known = request.prompt_tokens + len(produced)
        self._computed = 0
        self._blocks: list[int] = []
        self.n_told = len(produced)
        """Output tokens that others have heard of."""
        self.n_published = 0
        """Leading blocks that the prefix cache can find."""
        self.hashes: Seq[BlockHash] = request.block_hashes
        """Chain hashes of the known full blocks, as far as they are known."""
        self.cached_tokens = 0
        """Tokens found in the prefix cache at its first admission."""
        self.first_token_s: float | None = None
        self._last_token_s: float | None = None
        self.limit = 0
        """Iteration of its group after which it has `max_tokens`."""
        self.admitted = 0
        self.queued = queued
        self.n_preemptions = 0
        self.wanted_tokens = 0
        """What it would have had to compute when it got in line."""

    @property
    def n_known(self) -> int:
        group = self.decoding
        return self._known if group is None else self._known + group.iterations

    @n_known.setter
    def n_known(self, n: int) -> None:
        self._known = n if self.decoding is None else n - self.decoding.iterations

    @property
    def n_computed(self) -> int:
        group = self.decoding
        return self._computed if group is None else self._computed + group.iterations

    @n_computed.setter
    def n_computed(self, n: int) -> None:
        self._computed = n if self.decoding is None else n - self.decoding.iterations

    @property
    def n_produced(self) -> int:
        return self.n_known - self.prompt_tokens

    @property
    def n_uncomputed(self) -> int:
        return self._known - self._computed

    @property
    def last_token_s(self) -> float | None:
        """When its latest token came out."""
        return self._last_token_s if self.decoding is None else self.decoding.last_token_s

    @last_token_s.setter
    def last_token_s(self, time_s: float) -> None:
        self._last_token_s = time_s

    @property
    def blocks(self) -> list[int]:
        """Block ids in order; block `i` holds tokens `i * block_tokens` onwards."""
        if self.decoding is not None:
            self.decoding.give_blocks(self, self._blocks)
        return self._blocks

    @blocks.setter
    def blocks(self, blocks: list[int]) -> None:
        self._blocks = blocks

    @property
    def held_blocks(self) -> int:
        if self.decoding is not None:
            return self.decoding.blocks_of(self)
        return len(self._blocks)

    def join(self, group: Decoding) -> None:
        """From now on every iteration of the group gives it a token."""
        self._known -= group.iterations
        self._computed -= group.iterations
        self.decoding = group

    def leave(self) -> None:
        """Back to counts, and blocks, of its own."""
        group = self.decoding
        assert group is not None
        group.give_blocks(self, self._blocks)
        self._known += group.iterations
        self._computed += group.iterations
        self._last_token_s = group.last_token_s
        self.decoding = None

    def __repr__(self) -> str:
        return (
            f"<Sequence {self.id}#{self.attempt} computed={self.n_computed}/{self.n_known}"
            f" produced={self.n_produced}/{self.max_tokens} blocks={self.held_blocks}>"
        )
