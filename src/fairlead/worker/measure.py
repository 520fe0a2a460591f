"""Measures an engine at its start: a second of made-up steps, from which its latency is fitted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Protocol

from fairlead.instance.sequence import Sequence
from fairlead.latency.model import StepShape
from fairlead.model import Request, RequestId, Row, RowKind, Sampling

BUDGET_S = 1.0
"""When so much time is spent, no larger shapes are tried. `fairlead calibrate` takes longer."""
REPEATS = 3
"""The fastest counts: whatever disturbs a step only makes it longer."""
NEEDED_SHAPES = 4
"""Measured whatever they cost: less than these cannot tell a token from a context token."""


class Runs(Protocol):
    """What is measured: an `Engine`."""

    def run(self, rows: Seq[Row], sequences: Mapping[RequestId, Sequence]) -> object: ...
    def forget(self, request_id: RequestId) -> None: ...


@dataclass(frozen=True, slots=True)
class Shape:
    """A step of some decodes at one context, and at most one chunk."""

    decodes: int = 0
    context: int = 0
    """Tokens computed before, of each decode and of the chunk."""
    chunk: int = 0


# Cheap ones first, so that a slow engine stops after those it can afford.
SHAPES = (
    Shape(chunk=16),
    Shape(decodes=1, context=32),
    Shape(chunk=64),
    Shape(decodes=4, context=64),
    Shape(decodes=8, context=128),
    Shape(chunk=128, context=128),
    Shape(decodes=2, context=512),
    Shape(decodes=16, context=64),
    Shape(chunk=256),
    Shape(decodes=4, context=128, chunk=64),
    Shape(decodes=16, context=256),
    Shape(decodes=32, context=128),
    Shape(chunk=512),
    Shape(decodes=16, context=128, chunk=256),
    Shape(chunk=128, context=512),
)


def measure(
    engine: Runs,
    *,
    n_blocks: int,
    block_tokens: int,
    max_context: int,
    budget_s: float = BUDGET_S,
    clock: Callable[[], float] = time.perf_counter,
) -> list[tuple[StepShape, float]]:
    """Step shapes with their seconds, at least `NEEDED_SHAPES` where memory allows. Overwrites the
    engine's KV memory, which must not be in use."""
    begun_s = clock()
    points: list[tuple[StepShape, float]] = []
    fitting = [s for s in SHAPES if _fits(s, n_blocks, block_tokens, max_context)]
    for i, shape in enumerate(fitting or [Shape(chunk=1)]):
        if len(points) >= NEEDED_SHAPES and clock() - begun_s > budget_s:
            break
        rows, sequences = _step(shape, block_tokens)
        if i == 0:
            engine.run(rows, sequences)  # What is done once only would count for the first.
        points.append((StepShape.of(rows), _seconds(engine, rows, sequences, clock)))
        for request_id in sequences:
            engine.forget(request_id)
    return points


def _fits(shape: Shape, n_blocks: int, block_tokens: int, max_context: int) -> bool:
    lengths = list(_lengths(shape))
    blocks = sum(-(-length // block_tokens) for length in lengths)
    return blocks <= n_blocks and max(lengths) < max_context


def _lengths(shape: Shape) -> Iterator[int]:
    for _ in range(shape.decodes):
        yield shape.context + 1
    if shape.chunk:
        yield shape.context + shape.chunk


def _step(shape: Shape, block_tokens: int) -> tuple[list[Row], dict[RequestId, Sequence]]:
    rows: list[Row] = []
    sequences: dict[RequestId, Sequence] = {}
    next_block = 0
    for i, length in enumerate(_lengths(shape)):
        sequence = _sequence(i, length, shape.context)
        n_blocks = -(-length // block_tokens)
        sequence.blocks = [*range(next_block, next_block + n_blocks)]
        next_block += n_blocks
        kind = RowKind.DECODE if i < shape.decodes else RowKind.PREFILL
        rows.append(Row(sequence.id, kind, shape.context, length - shape.context, samples=True))
        sequences[sequence.id] = sequence
    return rows, sequences


def _sequence(i: int, length: int, computed: int) -> Sequence:
    request = Request(
        RequestId(f"measure-{i}"),
        arrival_s=0.0,
        prompt_tokens=length,
        max_tokens=1,
        sampling=Sampling(seed=i, ignore_eos=True),
        token_ids=[(7 * i + j) % 200 for j in range(length)],
    )
    sequence = Sequence(request, 1, (), i)
    sequence.n_computed = computed
    return sequence


def _seconds(
    engine: Runs,
    rows: Seq[Row],
    sequences: Mapping[RequestId, Sequence],
    clock: Callable[[], float],
) -> float:
    spans = []
    for _ in range(REPEATS):
        begun_s = clock()
        engine.run(rows, sequences)
        spans.append(max(clock() - begun_s, 1e-6))
    return min(spans)
