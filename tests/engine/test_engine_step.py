"""What a step leaves alone, and the rows that only a bug can bring."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

pytest.importorskip("torch", reason="needs fairlead[engine]: torch and transformers")

import torch

from fairlead.engine.attention import attend
from fairlead.model import GREEDY, Sampling


def test_only_the_slots_of_new_tokens_are_written(start: Callable[..., Any]) -> None:
    """Every other slot keeps its poison, those of half-filled blocks included."""
    driver = start("llama")
    first = driver.add("a", range(2, 20))
    second = driver.add("b", range(2, 8))
    driver.step({first: 18, second: 4})
    driver.step({first: 1, second: 2})
    for layer in driver.engine._pool.layers:
        written = layer.isfinite().flatten(3).all(-1)  # [2, blocks, block_tokens]
        assert written.sum() == 2 * (19 + 6)
        assert written[:, first.blocks[1], :3].all()
        assert not written[:, first.blocks[1], 3:].any()


def test_a_step_that_only_prefills_brings_no_token(start: Callable[..., Any]) -> None:
    driver = start("llama")
    sequence = driver.add("a", range(2, 60))
    output = driver.step({sequence: 30})
    assert (output.tokens, output.stopped, output.logprobs) == ({}, {}, {})


def test_sequences_are_not_changed(start: Callable[..., Any]) -> None:
    driver = start("llama")
    sequence = driver.add("a", range(2, 9), Sampling(seed=3, frequency_penalty=0.5))
    row = driver.row(sequence, 7)
    before = repr(sequence), list(sequence.token_ids), list(sequence.blocks)
    driver.engine.run([row], driver.sequences)
    assert (repr(sequence), sequence.token_ids, sequence.blocks) == before


def test_the_same_step_twice_brings_the_same(start: Callable[..., Any]) -> None:
    """Running again what was run is harmless: a commit may be lost."""
    driver = start("llama")
    sequence = driver.add("a", range(2, 9), Sampling(seed=3, frequency_penalty=0.5, logprobs=2))
    row = driver.row(sequence, 7)
    first, second = (driver.engine.run([row], driver.sequences) for _ in range(2))
    assert first == second


def test_wrong_rows_are_bugs_and_say_which(start: Callable[..., Any]) -> None:
    driver = start("llama")
    sequence = driver.add("a", range(2, 9))
    row = driver.row(sequence, 7)
    for wrong, complaint in (
        ([], "a step without rows"),
        ([row, row], "two rows"),
        ([structs.replace(row, n=0)], "an empty row"),
        ([structs.replace(row, start=-1)], "an empty row"),
        ([structs.replace(row, n=8)], "not known"),
        ([structs.replace(row, samples=False)], "samples in the wrong place"),
        ([structs.replace(row, n=3)], "samples in the wrong place"),
    ):
        with pytest.raises(AssertionError, match=complaint):
            driver.engine.run(wrong, driver.sequences)
    for blocks, complaint in (([], "without a block"), ([160], "no such block")):
        sequence.blocks = blocks
        with pytest.raises(AssertionError, match=complaint):
            driver.engine.run([row], driver.sequences)
    sequence.blocks, sequence.token_ids[3] = [4], 512
    with pytest.raises(AssertionError, match="no such token"):
        driver.engine.run([row], driver.sequences)


def test_attention_refuses_what_it_would_ignore() -> None:
    for keyword in ("softcap", "sliding_window", "s_aux", "position_bias"):
        with pytest.raises(AssertionError, match="cannot honour"):
            attend(
                torch.nn.Identity(),
                *torch.zeros(3, 1, 1, 1, 4),
                None,
                scaling=1.0,
                plan=None,  # type: ignore[arg-type]
                **{keyword: 3},
            )


def test_bfloat16_is_close_to_float32(start: Callable[..., Any]) -> None:
    """Chunks, gathered context and decodes; token for token equality is not promised there."""
    exact, rounded = start("qwen3"), start("qwen3", dtype="bfloat16")
    assert rounded.engine.dtype == "bfloat16"
    assert rounded.engine.kv_token_bytes == exact.engine.kv_token_bytes // 2
    told = structs.replace(GREEDY, logprobs=0)
    for driver in (exact, rounded):
        sequence = driver.add("a", range(2, 60), told)
        driver.step({sequence: 40})
    outputs = [driver.step({driver.sequences["a"]: 18}) for driver in (exact, rounded)]
    first, second = (output.logprobs["a"].logprob for output in outputs)
    assert first == pytest.approx(second, abs=0.1)


def test_importing_the_package_does_not_import_torch() -> None:
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, fairlead.engine, fairlead.engine.models, fairlead.engine.uniform;"
            "print([name for name in ('torch', 'transformers') if name in sys.modules])",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ast.literal_eval(told.stdout) == []
