"""Reads the measured GPU latencies of the perf folder into points and engine runs.

The folder's README says what was measured by whom. Two kinds are used here: step times composed
from measured kernels (`iters/`), and whole engines run at a fixed concurrency (`e2e/`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from fairlead.latency import Point, StepShape

SHORTEST_TOKENS = 16
"""Contexts and prompts below this are left out: nobody is served at a context of 2."""
MOST_DECODES = 1024
"""The largest default of a production engine; the tables go to 2,048."""
MOST_PREFILL_TOKENS = 8192
"""The largest default budget of a step; the A100's matrix table ends there."""


def read_points(perf: Path, name: str, kv_tokens: int) -> list[Point]:
    """The measured steps of `iters/NAME.parquet` that fit into `kv_tokens` of KV memory."""
    rows = pq.read_table(perf / "iters" / f"{name}.parquet").to_pylist()
    points = [(_shape(row), row["iter_ms"] / 1e3) for row in rows]
    return [(shape, seconds) for shape, seconds in points if _usable(shape, kv_tokens)]


def _shape(row: dict[str, Any]) -> StepShape:
    decodes, each = row["decode_batch"], row["decode_ctx_each"] if row["decode_batch"] else 0
    tokens = row["prefill_tokens"]
    chunks = row.get("prefill_seqs", 1) if tokens else 0
    start = row.get("prefill_ctx", 0) if tokens else 0
    chunk = tokens // chunks if chunks else 0
    return StepShape(
        decodes=decodes,
        decode_context=decodes * each,
        prefill_tokens=tokens,
        prefill_pairs=tokens * (start + chunk / 2),
        longest=max(each, start + chunk),
        sampled=decodes + chunks,
    )


def _usable(shape: StepShape, kv_tokens: int) -> bool:
    return (
        shape.decode_context <= kv_tokens
        and shape.decodes <= MOST_DECODES
        and shape.prefill_tokens <= MOST_PREFILL_TOKENS
        and shape.longest >= SHORTEST_TOKENS
    )


@dataclass(frozen=True, slots=True)
class EngineRun:
    """A whole engine under a fixed number of concurrent requests, all of the same lengths."""

    concurrency: int
    prompt_tokens: int
    output_tokens: int
    tpot_s: float
    """Measured, mean of all requests."""


def read_runs(perf: Path, kv_tokens: int, **where: object) -> list[EngineRun]:
    """The runs whose columns equal `where`, and whose sequences all fit into the KV memory.

    Outputs beyond 1,024 tokens are left out: they take long to play and add nothing new.
    """
    rows = pq.read_table(perf / "e2e" / "aic_silicon_ttft_tpot.parquet").to_pylist()
    runs = [
        EngineRun(int(row["concurrency"]), row["isl"], row["osl"], row["silicon_tpot_ms"] / 1e3)
        for row in rows
        if row["concurrency"] and all(row[key] == value for key, value in where.items())
    ]
    return sorted(
        (
            run
            for run in runs
            if run.output_tokens <= 1024
            and run.concurrency * (run.prompt_tokens + run.output_tokens) <= 0.95 * kv_tokens
        ),
        key=lambda run: (run.prompt_tokens, run.output_tokens, run.concurrency),
    )


def play_run(run: EngineRun, budget_tokens: int = 8192) -> list[StepShape]:
    """The steps of `run` once it has settled: decodes first, then prompts first come first served
    in chunks, within the budget. 8,192 tokens is the default of the engines on these GPUs.

    Which step follows which does not depend on how long steps take, because each finished request
    is replaced at once. The slots start evenly spread over their lives.
    """
    n = run.concurrency
    produced = [1 + i * run.output_tokens // n for i in range(n)]
    computed = [run.prompt_tokens] * n
    prompts: deque[int] = deque()
    steps: list[StepShape] = []
    n_finished = 0
    settled = 0
    while n_finished < 3 * n:
        decoding = [i for i in range(n) if computed[i] == run.prompt_tokens]
        shape, entered = _next_step(run, decoding, produced, computed, prompts, budget_tokens)
        steps.append(shape)
        for i in entered:
            produced[i] = 1
        for i in decoding:
            produced[i] += 1
            if produced[i] >= run.output_tokens:
                n_finished += 1
                computed[i] = 0
                prompts.append(i)
        if n_finished <= n:
            settled = len(steps)
    return steps[settled:]


def _next_step(
    run: EngineRun,
    decoding: list[int],
    produced: list[int],
    computed: list[int],
    prompts: deque[int],
    budget_tokens: int,
) -> tuple[StepShape, list[int]]:
    """The step that comes now, and the slots whose prompt it completes."""
    contexts = [run.prompt_tokens + produced[i] for i in decoding]
    longest = max(contexts, default=0)
    spare = budget_tokens - len(decoding)
    tokens, pairs, entered = 0, 0.0, []
    while prompts and tokens < spare:
        slot = prompts[0]
        start = computed[slot]
        n = min(run.prompt_tokens - start, spare - tokens)
        tokens += n
        pairs += n * (start + n / 2)
        longest = max(longest, start + n)
        computed[slot] += n
        if computed[slot] < run.prompt_tokens:
            break
        entered.append(prompts.popleft())
    sampled = len(decoding) + len(entered)
    return StepShape(len(decoding), sum(contexts), tokens, pairs, longest, sampled), entered
