"""Tiny random models, and a driver that plays the part of `Instance` for the engine alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from fairlead.instance.sequence import Sequence
from fairlead.model import GREEDY, Request, RequestId, Row, RowKind, Sampling

VOCAB_SIZE = 512


def _config(family: str) -> Any:
    import transformers

    shape: dict[str, Any] = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "eos_token_id": 1,
        "bos_token_id": 0,
        "pad_token_id": None,
    }
    if family == "llama":
        scaling = {
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        }
        return transformers.LlamaConfig(**shape, rope_parameters=scaling)
    if family == "qwen2":
        shape.pop("head_dim")
        return transformers.Qwen2Config(**shape)
    return transformers.Qwen3Config(**shape, tie_word_embeddings=True)


def make_model(folder: Path, family: str, seed: int = 0) -> Path:
    """A random model. Weights of std 1/sqrt(fan_in) keep greedy outputs varied and ties away."""
    import torch
    import transformers

    config = _config(family)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            fan_in = parameter.shape[1] ** 0.5
            torch.nn.init.normal_(parameter, std=0.1 if "embed" in name else 1 / fan_in)
        elif name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model of a family."""
    import torch

    torch.set_num_threads(1)
    made: dict[str, Path] = {}

    def get(family: str) -> Path:
        if family not in made:
            made[family] = make_model(tmp_path_factory.mktemp(family), family)
        return made[family]

    return get


class Driver:
    """Sequences by hand: gives out blocks in a scattered order, builds rows, appends tokens."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.sequences: dict[RequestId, Sequence] = {}
        stride = 7
        n = engine.n_blocks
        self.free = sorted(range(n), key=lambda block: (block * stride) % n)

    def add(
        self,
        name: str,
        prompt: Iterable[int],
        sampling: Sampling = GREEDY,
        produced: Iterable[int] = (),
    ) -> Sequence:
        token_ids = tuple(prompt)
        request = Request(
            id=RequestId(name),
            arrival_s=0.0,
            prompt_tokens=len(token_ids),
            max_tokens=1000,
            sampling=sampling,
            token_ids=token_ids,
        )
        sequence = Sequence(request, 1, tuple(produced), 1)
        self.sequences[sequence.id] = sequence
        return sequence

    def cover(self, sequence: Sequence, end: int) -> None:
        while len(sequence.blocks) * self.engine.block_tokens < end:
            sequence.blocks.append(self.free.pop(0))

    def row(self, sequence: Sequence, n: int) -> Row:
        start = sequence.n_computed
        self.cover(sequence, start + n)
        samples = start + n == sequence.n_known
        kind = RowKind.DECODE if n == 1 and samples else RowKind.PREFILL
        return Row(sequence.id, kind, start, n, samples)

    def step(self, shares: dict[Sequence, int]) -> Any:
        """One iteration in which each sequence computes so many of its tokens."""
        rows = [self.row(sequence, n) for sequence, n in shares.items()]
        output = self.engine.run(rows, self.sequences)
        assert set(output.tokens) == {row.request for row in rows if row.samples}
        for row in rows:
            sequence = self.sequences[row.request]
            sequence.n_computed += row.n
            if row.samples:
                sequence.token_ids.append(output.tokens[row.request])
                sequence.n_known += 1
        return output

    def step_within(self, budget: int, active: Iterable[Sequence]) -> Any:
        """Decodes first, then prefill chunks in order, at most `budget` tokens together."""
        shares: dict[Sequence, int] = {}
        for sequence in sorted(active, key=lambda s: s.n_uncomputed > 1):
            n = min(sequence.n_uncomputed, budget)
            if n:
                shares[sequence] = n
                budget -= n
        return self.step(shares)

    def produce(self, n: int, budget: int = 10_000) -> None:
        """Steps until every sequence has produced `n` tokens."""
        while active := [s for s in self.sequences.values() if s.n_produced < n]:
            self.step_within(budget, active)

    def preempt(self, sequence: Sequence) -> None:
        """By recompute: its KV is lost, and its blocks hold garbage that must never be read."""
        self.poison(sequence.blocks)
        self.free.extend(sequence.blocks)
        sequence.blocks.clear()
        sequence.n_computed = 0

    def poison(self, blocks: Iterable[int]) -> None:
        import torch

        with torch.inference_mode():
            for layer in self.engine._pool.layers:
                layer[:, list(blocks)] = float("nan")

    def produced(self, name: str) -> list[int]:
        sequence = self.sequences[RequestId(name)]
        return sequence.token_ids[sequence.prompt_tokens :]


@pytest.fixture
def start(tiny: Callable[[str], Path]) -> Callable[..., Driver]:
    """Starts an engine on a tiny model, with every block poisoned, behind a driver."""
    from fairlead.engine import EngineConfig, load

    def begin(
        family: str = "llama",
        n_blocks: int = 160,
        block_tokens: int = 16,
        dtype: str = "float32",
    ) -> Driver:
        config = EngineConfig(
            model=str(tiny(family)),
            dtype=dtype,
            device="cpu",
            threads=1,
            block_tokens=block_tokens,
            n_blocks=n_blocks,
        )
        driver = Driver(load(config))
        driver.poison(range(n_blocks))
        return driver

    return begin
