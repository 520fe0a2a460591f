"""Attention over the paged pool: the function that transformers calls in every layer.

Design: decodes are sorted by context length and gathered, by whole blocks, in groups of at most
`GROUP_BYTES` of KV, so that the kernel reads what the gather has just put into cache; measured 2.3
times as fast as padding the whole batch (32 sequences of 1024 tokens, 0.6B, CPU). Everything that
does not depend on the layer is computed once a step, in an `AttentionPlan`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from fairlead.engine.pool import KvPool

NAME = "fairlead"
"""Under which the function is registered with transformers."""
GROUP_BYTES = {"cpu": 1 << 20, "cuda": 1 << 28}
"""KV gathered at once. CPU: about the size of a core's cache. CUDA: few launches matter more; a
guess, not measured."""

_HARMLESS = {"dropout", "position_ids", "use_cache", "output_attentions", "is_causal"}


@dataclass(frozen=True, slots=True)
class Span:
    """One sequence's part of a step: tokens `start` to `end`, in these blocks."""

    blocks: Sequence[int]
    start: int
    end: int

    @property
    def n(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Gathered:
    """KV of some sequences, copied together and padded to the longest of them."""

    source: Tensor
    """Rows of the pool's `block_rows`. [2 * sequences * blocks]"""
    target: Tensor
    tails: Tensor | None
    """Token rows of `target` that are padding: other requests' KV, or none yet. They are zeroed,
    for a masked score still turns an infinite or undefined value into an undefined sum."""
    keys: Tensor
    """A view of `target`. [sequences, kv_heads, longest, head_dim]"""
    values: Tensor

    def fill(self, block_rows: Tensor) -> None:
        torch.index_select(block_rows, 0, self.source, out=self.target)
        if self.tails is not None:
            self.keys_and_values.index_fill_(0, self.tails, 0.0)

    @property
    def keys_and_values(self) -> Tensor:
        # [2 * sequences * padded tokens, kv_heads * head_dim]
        return self.target.view(-1, self.keys.shape[1] * self.keys.shape[3])


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one token each, `first` to `end` of the step's tokens."""

    first: int
    end: int
    kv: Gathered
    mask: Tensor | None
    """What to add to the scores; None where all are of one length. [sequences, 1, 1, longest]"""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A row of several tokens, `first` to `end` of the step's tokens."""

    first: int
    end: int
    kv: Gathered | None
    """None where the chunk is the first of its sequence, and sees nothing but itself."""
    mask: Tensor | None
    """True where a token sees another. [tokens, context]"""


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """All index tensors of one step, shared by its layers."""

    pool: KvPool
    key_slots: Tensor
    """Rows of the pool's `token_rows` that receive the new tokens' keys. [tokens]"""
    value_slots: Tensor
    groups: tuple[Group, ...]
    chunks: tuple[Chunk, ...]


def plan_attention(pool: KvPool, spans: Sequence[Span]) -> AttentionPlan:
    """The plan of a step whose tokens are those of `spans`, one after another.

    Spans of one token come first, by ascending context.
    """
    slots = [slot for span in spans for slot in pool.slots(span.blocks, span.start, span.end)]
    key_slots = torch.tensor(slots, device=pool.device)
    singles = [span for span in spans if span.n == 1]
    return AttentionPlan(
        pool=pool,
        key_slots=key_slots,
        value_slots=key_slots + pool.n_slots,
        groups=_groups(pool, singles),
        chunks=_chunks(pool, spans[len(singles) :], len(singles)),
    )


def _groups(pool: KvPool, singles: Sequence[Span]) -> tuple[Group, ...]:
    """Fills groups with sequences of ascending length; a long sequence is a group of one."""
    block_bytes = 2 * pool.block_tokens * pool.shape.row_bytes
    limit_blocks = GROUP_BYTES[pool.device.type] // block_bytes
    groups = []
    first = 0
    for index, span in enumerate(singles):
        if index > first and (index + 1 - first) * _n_blocks(pool, span) > limit_blocks:
            groups.append(_group(pool, singles[first:index], first))
            first = index
    if singles:
        groups.append(_group(pool, singles[first:], first))
    return tuple(groups)


def _group(pool: KvPool, spans: Sequence[Span], first: int) -> Group:
    """`spans` ascend by context, so that the last is the longest."""
    longest = spans[-1].end
    if spans[0].end == longest:
        return Group(first, first + len(spans), _gathered(pool, spans), None)
    ends = torch.tensor([span.end for span in spans], device=pool.device)
    columns = torch.arange(_n_blocks(pool, spans[-1]) * pool.block_tokens, device=pool.device)
    padding = columns >= ends[:, None]  # [sequences, padded tokens]
    tails = padding.flatten().nonzero().squeeze(1)
    mask = torch.zeros(len(spans), longest, dtype=pool.shape.dtype, device=pool.device)
    mask.masked_fill_(padding[:, :longest], float("-inf"))
    kv = _gathered(pool, spans, torch.cat([tails, tails + padding.numel()]))
    return Group(first, first + len(spans), kv, mask[:, None, None])


def _chunks(pool: KvPool, spans: Sequence[Span], first: int) -> tuple[Chunk, ...]:
    chunks = []
    for span in spans:
        kv = mask = None
        if span.start:
            kv = _gathered(pool, [span])
            positions = torch.arange(span.end, device=pool.device)
            mask = positions <= positions[span.start :, None]
        chunks.append(Chunk(first, first + span.n, kv, mask))
        first += span.n
    return tuple(chunks)


def _gathered(pool: KvPool, spans: Sequence[Span], tails: Tensor | None = None) -> Gathered:
    """Shorter sequences than the last are padded with blocks of their own; see `tails`."""
    longest, n_blocks = spans[-1].end, _n_blocks(pool, spans[-1])
    blocks: list[int] = []
    for span in spans:
        own = span.blocks[: _n_blocks(pool, span)]
        blocks += own
        blocks += [own[0]] * (n_blocks - len(own))
    target = pool.scratch(len(spans), n_blocks)
    by_token = target.view(2, len(spans), -1, pool.shape.heads, pool.shape.head_dim)
    keys, values = by_token[:, :, :longest].transpose(2, 3)
    source = torch.tensor(pool.gather_rows(blocks), device=pool.device)
    return Gathered(source, target, tails, keys, values)


def _n_blocks(pool: KvPool, span: Span) -> int:
    return -(-span.end // pool.block_tokens)


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    plan: AttentionPlan,
    **others: Any,
) -> tuple[Tensor, None]:
    """Stores the new tokens' KV, and lets each token see its sequence so far.

    `query` [1, heads, tokens, head_dim], `key` and `value` [1, kv_heads, tokens, head_dim];
    returns [1, tokens, heads, head_dim]. Called by transformers, which passes `plan` down from the
    call of the model.
    """
    assert attention_mask is None, "the plan holds the masks"
    for name, setting in others.items():
        assert setting is None or name in _HARMLESS, f"attention cannot honour {name}={setting!r}"
    layer: int = module.layer_idx  # type: ignore[assignment]
    token_rows = plan.pool.token_rows[layer]
    token_rows[plan.key_slots] = key[0].transpose(0, 1)
    token_rows[plan.value_slots] = value[0].transpose(0, 1)
    block_rows = plan.pool.block_rows[layer]
    rows = query[0].transpose(0, 1)  # [tokens, heads, head_dim]
    out = torch.empty_like(rows, memory_format=torch.contiguous_format)
    for group in plan.groups:
        group.kv.fill(block_rows)
        _attend_group(group, rows, out, scaling)
    for chunk in plan.chunks:
        if chunk.kv is not None:
            chunk.kv.fill(block_rows)
        _attend_chunk(chunk, query, key, value, out, scaling)
    return out[None], None


def _attend_group(group: Group, rows: Tensor, out: Tensor, scaling: float) -> None:
    """Query heads that share a KV head act as query positions, so that no KV is repeated."""
    n, (_, heads, dim) = group.end - group.first, rows.shape
    kv_heads = group.kv.keys.shape[1]
    queries = rows[group.first : group.end].view(n, kv_heads, heads // kv_heads, dim)
    seen = scaled_dot_product_attention(
        queries, group.kv.keys, group.kv.values, attn_mask=group.mask, scale=scaling
    )
    out[group.first : group.end] = seen.flatten(1, 2)


def _attend_chunk(
    chunk: Chunk, query: Tensor, key: Tensor, value: Tensor, out: Tensor, scaling: float
) -> None:
    own = slice(chunk.first, chunk.end)
    seen = scaled_dot_product_attention(
        query[:, :, own],
        chunk.kv.keys if chunk.kv else key[:, :, own],
        chunk.kv.values if chunk.kv else value[:, :, own],
        attn_mask=chunk.mask,
        is_causal=chunk.kv is None,
        scale=scaling,
        enable_gqa=True,
    )
    out[own] = seen[0].transpose(0, 1)
