"""Greedy output equals that of transformers' `generate`, token for token in float32, whatever the
batch, the chunks, the blocks, preemption, prefix reuse and hand-off."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs fairlead[engine]: torch and transformers")

import torch
import transformers

from fairlead.engine import EngineConfig, load
from fairlead.engine.models import NANO, resolve_model
from fairlead.engine.transfer import KvImage
from fairlead.model import Sampling, StepResult
from tests.strategies import BATCHING, instance, request

N_TOKENS = 24
FAMILIES = ("llama", "qwen2", "qwen3")
NEVER_STOP = Sampling(temperature=0.0, ignore_eos=True)
LENGTHS = (1, 3, 16, 17, 40, 90, 150)


def prompt(n: int, seed: int = 0) -> list[int]:
    rng = random.Random(seed * 1000 + n)
    return [rng.randrange(2, 512) for _ in range(n)]


class Oracle:
    """What `generate` says to a prompt alone, never stopping."""

    def __init__(self, tiny: Callable[[str], Path]) -> None:
        self._folder = lambda name: resolve_model(NANO) if name == NANO else tiny(name)
        self._models: dict[str, Any] = {}
        self._known: dict[tuple[str, tuple[int, ...]], list[int]] = {}

    def __call__(self, family: str, token_ids: list[int]) -> list[int]:
        key = (family, tuple(token_ids))
        if key not in self._known:
            self._known[key] = self._generate(*key)
        return self._known[key]

    def _generate(self, family: str, token_ids: tuple[int, ...]) -> list[int]:
        if family not in self._models:
            read = transformers.AutoModelForCausalLM.from_pretrained
            self._models[family] = read(self._folder(family), dtype=torch.float32)
        ids = torch.tensor([token_ids])
        out = self._models[family].generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=N_TOKENS,
            do_sample=False,
            eos_token_id=-1,
            pad_token_id=0,
        )
        return [int(token) for token in out[0, ids.shape[1] :]]


@pytest.fixture(scope="module")
def oracle(tiny: Callable[[str], Path]) -> Oracle:
    return Oracle(tiny)


def add_all(driver: Any, seed: int = 0) -> dict[str, list[int]]:
    wanted = {f"r{n}": prompt(n, seed) for n in LENGTHS}
    for name, token_ids in wanted.items():
        driver.add(name, token_ids, NEVER_STOP)
    return wanted


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("budget", [37, 50, 10_000])
def test_chunks_mixed_with_decodes_change_nothing(
    start: Callable[..., Any], oracle: Oracle, family: str, budget: int
) -> None:
    driver = start(family)
    wanted = add_all(driver)
    driver.produce(N_TOKENS, budget)
    outputs = {name: driver.produced(name)[:N_TOKENS] for name in wanted}
    assert outputs == {name: oracle(family, ids) for name, ids in wanted.items()}
    assert len({token for tokens in outputs.values() for token in tokens}) > 50, "too repetitive"


def test_a_lone_sequence_equals_generate(start: Callable[..., Any], oracle: Oracle) -> None:
    driver = start("llama")
    driver.add("r", prompt(40), NEVER_STOP)
    driver.produce(N_TOKENS)
    assert driver.produced("r") == oracle("llama", prompt(40))


@pytest.mark.parametrize("group_bytes", [1, 20_000])
def test_small_attention_groups_change_nothing(
    start: Callable[..., Any], oracle: Oracle, monkeypatch: pytest.MonkeyPatch, group_bytes: int
) -> None:
    """With one byte every sequence is a group of its own; the default holds all of them."""
    from fairlead.engine import attention

    monkeypatch.setitem(attention.GROUP_BYTES, "cpu", group_bytes)
    driver = start("llama")
    wanted = add_all(driver)
    driver.produce(N_TOKENS)
    for name, token_ids in wanted.items():
        assert driver.produced(name) == oracle("llama", token_ids)


@pytest.mark.parametrize("block_tokens", [1, 5, 64])
def test_the_block_size_changes_nothing(
    start: Callable[..., Any], oracle: Oracle, block_tokens: int
) -> None:
    driver = start("llama", n_blocks=600 // block_tokens + 10, block_tokens=block_tokens)
    wanted = add_all(driver)
    driver.produce(N_TOKENS, 50)
    for name, token_ids in wanted.items():
        assert driver.produced(name)[:N_TOKENS] == oracle("llama", token_ids)


@pytest.mark.parametrize("family", FAMILIES)
def test_preemption_by_recompute_changes_nothing(
    start: Callable[..., Any], oracle: Oracle, family: str
) -> None:
    """Every few steps a victim loses its blocks mid-decode, and is computed again in chunks."""
    driver = start(family)
    wanted = add_all(driver)
    order = random.Random(5)
    for _ in range(8):
        driver.produce(min(s.n_produced for s in driver.sequences.values()) + 2, 37)
        driver.preempt(order.choice(list(driver.sequences.values())))
    driver.produce(N_TOKENS, 37)
    for name, token_ids in wanted.items():
        assert driver.produced(name)[:N_TOKENS] == oracle(family, token_ids)


def test_a_shared_prefix_is_computed_once(start: Callable[..., Any], oracle: Oracle) -> None:
    """Two sequences hold the same blocks of a common prefix while both decode."""
    driver = start("qwen3")
    common = prompt(64)
    first = driver.add("a", common + prompt(9, seed=1), NEVER_STOP)
    driver.step({first: first.n_known})
    second = driver.add("b", common + prompt(21, seed=2), NEVER_STOP)
    second.blocks = first.blocks[:4]
    second.n_computed = 64
    driver.produce(N_TOKENS, 20)
    for name in ("a", "b"):
        asked = list(driver.sequences[name].request.token_ids)
        assert driver.produced(name)[:N_TOKENS] == oracle("qwen3", asked)


def test_a_prompt_that_is_cached_but_for_its_last_token(
    start: Callable[..., Any], oracle: Oracle
) -> None:
    """A prefill row of one token goes the way of the decodes."""
    driver = start("llama")
    first = driver.add("a", prompt(49), NEVER_STOP)
    driver.step({first: 49})
    second = driver.add("b", prompt(49), NEVER_STOP)
    second.blocks, second.n_computed = first.blocks[:3], 48
    third = driver.add("c", prompt(90), NEVER_STOP)
    driver.step({third: 60, second: 1, first: 1})
    driver.produce(N_TOKENS)
    for name, n in (("a", 49), ("b", 49), ("c", 90)):
        assert driver.produced(name)[:N_TOKENS] == oracle("llama", prompt(n))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sequence_handed_off_mid_decode_goes_on(
    start: Callable[..., Any], oracle: Oracle, family: str
) -> None:
    """Through bytes, into an engine with another block size."""
    source, target = start(family), start(family, n_blocks=400, block_tokens=5)
    moving = source.add("r", prompt(40), NEVER_STOP)
    source.add("other", prompt(17), NEVER_STOP)
    source.produce(9, 30)
    image = source.engine.export_kv(moving.blocks, moving.n_computed).to_bytes()

    target.add("busy", prompt(90), NEVER_STOP)
    target.produce(3)
    arrived = target.add("r", prompt(40), NEVER_STOP, source.produced("r"))
    target.cover(arrived, moving.n_computed)
    target.engine.import_kv(KvImage.from_bytes(image), arrived.blocks)
    arrived.n_computed = moving.n_computed
    target.produce(N_TOKENS)
    assert target.produced("r")[:N_TOKENS] == oracle(family, prompt(40))


@pytest.mark.parametrize("batching", BATCHING)
def test_steps_planned_by_an_instance_change_nothing(
    start: Callable[..., Any], oracle: Oracle, batching: str
) -> None:
    """With too few blocks for all of them, so that it preempts, and with prefixes to share."""
    driver = start("llama", n_blocks=44, block_tokens=4)
    inst = instance(batching, n_blocks=44, block_tokens=4, max_context=512)
    common = prompt(30)
    wanted = {f"r{n}": common + prompt(n, seed=1) for n in (1, 5, 12, 20, 33)}
    outputs: dict[str, list[int]] = {name: [] for name in wanted}
    later = [request(name, ids, N_TOKENS, sampling=NEVER_STOP) for name, ids in wanted.items()]
    now = 0.0
    inst.submit(later.pop(0), now)
    while (step := inst.plan(now)) is not None:
        tokens = driver.engine.run(step.rows, inst.sequences).tokens
        for name, token in tokens.items():
            outputs[name].append(token)
        now += 0.01
        inst.commit(step, StepResult({name: (token,) for name, token in tokens.items()}), now)
        while later:
            inst.submit(later.pop(0), now)
    assert outputs == {name: oracle("llama", ids) for name, ids in wanted.items()}
    report = inst.report(now)
    assert report.hit_tokens > 0
    assert report.preemptions > 0 or batching not in ("fcfs", "sarathi")


def test_the_built_in_model_equals_generate(oracle: Oracle) -> None:
    from tests.engine.conftest import Driver

    engine = load(EngineConfig(NANO, dtype="float32", device="cpu", threads=1, n_blocks=64))
    driver = Driver(engine)
    asked = [[256, *b"What is a fairlead?"], list(range(32, 127)) * 2]
    for i, ids in enumerate(asked):
        driver.add(f"r{i}", ids, NEVER_STOP)
    driver.produce(N_TOKENS, 50)
    for i, ids in enumerate(asked):
        assert driver.produced(f"r{i}")[:N_TOKENS] == oracle(NANO, ids)
