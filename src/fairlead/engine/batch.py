"""The tensors of one step: all tokens of all rows in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fairlead.engine.attention import AttentionPlan, Span, plan_attention
from fairlead.engine.pool import KvPool
from fairlead.instance.sequence import Sequence as Seq
from fairlead.model import RequestId, Row


@dataclass(frozen=True, slots=True)
class Batch:
    """What the model is called with."""

    token_ids: Tensor
    """[1, tokens]"""
    positions: Tensor
    """[1, tokens]"""
    last: Tensor
    """Index of the last token of each row that samples. [samples]"""
    sampling: list[Seq]
    """The sequences of those rows, in the same order."""
    plan: AttentionPlan


def build_batch(
    rows: Sequence[Row], sequences: Mapping[RequestId, Seq], pool: KvPool, vocab_size: int
) -> Batch:
    """Rows of one token first, by ascending context, then the chunks as they came."""
    assert rows, "a step without rows"
    assert len({row.request for row in rows}) == len(rows), "a request has two rows in one step"
    token_ids: list[int] = []
    positions: list[int] = []
    last: list[int] = []
    sampling: list[Seq] = []
    spans: list[Span] = []
    for row in sorted(rows, key=_place):
        sequence, end = sequences[row.request], row.start + row.n
        _check(row, sequence, pool, vocab_size)
        token_ids += sequence.token_ids[row.start : end]
        positions += range(row.start, end)
        spans.append(Span(sequence.blocks, row.start, end))
        if row.samples:
            last.append(len(token_ids) - 1)
            sampling.append(sequence)
    return Batch(
        token_ids=torch.tensor([token_ids], device=pool.device),
        positions=torch.tensor([positions], device=pool.device),
        last=torch.tensor(last, dtype=torch.long, device=pool.device),
        sampling=sampling,
        plan=plan_attention(pool, spans),
    )


def _place(row: Row) -> tuple[bool, int]:
    return (False, row.start) if row.n == 1 else (True, 0)


def _check(row: Row, sequence: Seq, pool: KvPool, vocab_size: int) -> None:
    """A row that fails here is a bug of the instance, or of whoever let its tokens in."""
    end = row.start + row.n
    n_blocks = -(-end // pool.block_tokens)
    assert row.n > 0 <= row.start, _told("an empty row", row, sequence)
    assert end <= len(sequence.token_ids), _told("tokens that are not known", row, sequence)
    at_end = end == len(sequence.token_ids)
    assert row.samples == at_end, _told("samples in the wrong place", row, sequence)
    assert n_blocks <= len(sequence.blocks), _told("tokens without a block", row, sequence)
    blocks = sequence.blocks[:n_blocks]
    assert 0 <= min(blocks) <= max(blocks) < pool.n_blocks, _told("no such block", row, sequence)
    tokens = sequence.token_ids[row.start : end]
    assert 0 <= min(tokens) <= max(tokens) < vocab_size, _told("no such token", row, sequence)


def _told(what: str, row: Row, sequence: Seq) -> str:
    return f"{what}: {row} of {sequence!r} with blocks {sequence.blocks}"
