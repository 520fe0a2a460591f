"""Sampling against a plain, slow reference, and the promises about seeds."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

pytest.importorskip("torch", reason="needs fairlead[engine]: torch and transformers")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.engine.sampling import Sampler, draw
from fairlead.engine.uniform import uniform
from fairlead.instance.sequence import Sequence
from fairlead.model import GREEDY, FinishReason, Request, RequestId, Sampling

EOS = 1
_NUMBERS = itertools.count()


def sequence(
    sampling: Sampling, prompt: tuple[int, ...] = (5,), produced: tuple[int, ...] = ()
) -> Sequence:
    request = Request(
        id=RequestId(f"r{next(_NUMBERS)}"),
        arrival_s=0.0,
        prompt_tokens=len(prompt),
        max_tokens=100,
        sampling=sampling,
        token_ids=prompt,
    )
    return Sequence(request, 1, produced, 1)


def sample_one(logits: list[float], seq: Sequence) -> int:
    output = Sampler([EOS], len(logits)).sample(torch.tensor([logits]), [seq])
    return output.tokens[seq.id]


def reference(logits: list[float], seq: Sequence) -> dict[int, float]:
    """The probability of every token that may come out, likeliest first, in plain Python."""
    sampling, values = seq.request.sampling, list(logits)
    produced = Counter(seq.token_ids[seq.prompt_tokens :])
    if seq.n_produced < sampling.min_tokens:
        for token in {*sampling.stop_token_ids} | (set() if sampling.ignore_eos else {EOS}):
            values[token] = -math.inf
    for token in set(seq.token_ids):
        factor = sampling.repetition_penalty
        values[token] = values[token] / factor if values[token] > 0 else values[token] * factor
    for token, n in produced.items():
        values[token] -= sampling.frequency_penalty * n + sampling.presence_penalty
    if sampling.temperature == 0:
        return {max(range(len(values)), key=lambda i: (values[i], -i)): 1.0}
    weights = [math.exp((v - max(values)) / sampling.temperature) for v in values]
    order = sorted(range(len(values)), key=lambda i: (-weights[i], i))
    order = [i for i in order if weights[i] >= sampling.min_p * max(weights)]
    order = order[: sampling.top_k or None]
    total, kept, before = sum(weights[i] for i in order), [], 0.0
    for i in order:
        if sampling.top_p < 1 and before >= sampling.top_p * total:
            break
        kept.append(i)
        before += weights[i]
    return {i: weights[i] / before for i in kept if weights[i] > 0}


def reference_token(logits: list[float], seq: Sequence) -> int:
    target, reached = uniform(seq.request.sampling.seed, seq.n_produced), 0.0
    probabilities = reference(logits, seq)
    for token, probability in probabilities.items():
        reached += probability
        if target < reached:
            return token
    return list(probabilities)[-1]


SAMPLINGS = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.0]),
    top_p=st.sampled_from([1.0, 0.9, 0.5, 0.1]),
    top_k=st.sampled_from([0, 1, 3, 20, 1000]),
    min_p=st.sampled_from([0.0, 0.01, 0.3]),
    presence_penalty=st.sampled_from([0.0, 0.7, -0.5]),
    frequency_penalty=st.sampled_from([0.0, 0.4]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    seed=st.integers(-5, 1000),
    min_tokens=st.sampled_from([0, 4]),
    ignore_eos=st.booleans(),
    stop_token_ids=st.sampled_from([(), (2, 9)]),
)


@settings(max_examples=150, deadline=None)
@given(SAMPLINGS, st.integers(0, 1000), st.integers(0, 6))
def test_every_setting_does_what_the_reference_does(
    sampling: Sampling, seed: int, n_produced: int
) -> None:
    rng = random.Random(seed)
    logits = [round(rng.gauss(0, 2), 3) for _ in range(40)]
    seq = sequence(sampling, (5, 6, 5), tuple(rng.randrange(40) for _ in range(n_produced)))
    assert sample_one(logits, seq) == reference_token(logits, seq)


@pytest.mark.parametrize("sampling", [
    Sampling(),
    Sampling(top_p=0.7),
    Sampling(top_p=0.999),
    Sampling(top_k=300),
    Sampling(min_p=0.0001, top_p=0.95),
    Sampling(temperature=5.0, top_k=40, top_p=0.9),
])  # fmt: skip
def test_few_candidates_draw_the_same_as_the_full_vocabulary(sampling: Sampling) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(64, 500, generator=generator) * 2
    chosen = [sampling.temperature, sampling.top_p, sampling.top_k or math.inf, sampling.min_p]
    rows = torch.tensor([[*chosen, uniform(3, i)] for i in range(64)], dtype=torch.float64)
    whole = draw(logits, rows, 500)
    assert draw(logits, rows, 8) == whole
    assert draw(logits, rows, 60) == whole
    assert len(set(whole)) > 10


def test_equal_logits_are_ordered_by_id() -> None:
    tokens = [sample_one([0.0] * 8, sequence(Sampling(top_k=3, seed=i))) for i in range(60)]
    assert set(tokens) == {0, 1, 2}
    assert sample_one([0.0, 1.0, 1.0, 0.5], sequence(GREEDY)) == 1


def test_frequencies_follow_the_probabilities() -> None:
    logits = [math.log(p) for p in (0.5, 0.3, 0.15, 0.05)]
    rows = torch.tensor([[1.0, 1.0, math.inf, 0.0, uniform(11, i)] for i in range(8000)])
    drawn = Counter(draw(torch.tensor([logits]).expand(8000, 4), rows.double()))
    for token, probability in enumerate((0.5, 0.3, 0.15, 0.05)):
        assert abs(drawn[token] / 8000 - probability) < 0.02


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    """Greedy, penalised, seeded and reporting sequences in one batch come out as they do alone."""
    settings_of_rows = [
        GREEDY,
        Sampling(temperature=0.8, seed=3, top_p=0.9),
        Sampling(temperature=0.0, repetition_penalty=1.5),
        Sampling(seed=9, logprobs=3),
        Sampling(seed=4, min_tokens=5, frequency_penalty=0.5),
    ]
    logits = torch.randn(5, 50, generator=torch.Generator().manual_seed(2)) * 2
    rows = [sequence(s, (3, 4), (7, 7, 8)) for s in settings_of_rows]
    together = Sampler([EOS], 50).sample(logits, rows)
    for i, row in enumerate(rows):
        alone = Sampler([EOS], 50).sample(logits[i : i + 1], [row])
        assert together.tokens[row.id] == alone.tokens[row.id]
        assert together.logprobs.get(row.id) == alone.logprobs.get(row.id)
    assert list(together.logprobs) == [rows[3].id]


def test_an_end_of_sequence_token_stops() -> None:
    logits = [0.0] * 10
    logits[EOS] = 9.0
    for sampling, stops in (
        (GREEDY, True),
        (replace(GREEDY, ignore_eos=True), False),
        (replace(GREEDY, ignore_eos=True, stop_token_ids=(EOS,)), True),
    ):
        seq = sequence(sampling)
        output = Sampler([EOS], 10).sample(torch.tensor([logits]), [seq])
        assert output.tokens == {seq.id: EOS}
        assert output.stopped == ({seq.id: FinishReason.STOP} if stops else {})


def test_stop_tokens_wait_for_min_tokens() -> None:
    logits = [0.0, 9.0, 8.0, 1.0]
    sampling = replace(GREEDY, min_tokens=2, stop_token_ids=(2, 10**9))
    for produced, token in (((), 3), ((3,), 3), ((3, 3), EOS)):
        seq = sequence(sampling, produced=produced)
        output = Sampler([EOS], 4).sample(torch.tensor([logits]), [seq])
        assert output.tokens[seq.id] == token
        assert bool(output.stopped) == (token == EOS)


def test_logprobs_are_of_the_raw_distribution() -> None:
    """Temperature, penalties and masks do not touch them."""
    logits = torch.randn(30, generator=torch.Generator().manual_seed(3)) * 3
    sampling = Sampling(
        temperature=0.0, repetition_penalty=2.0, min_tokens=9, presence_penalty=2.0, logprobs=4
    )
    likeliest = int(logits.argmax())
    seq = sequence(sampling, (likeliest,), (likeliest,))
    output = Sampler([EOS], 30).sample(logits[None], [seq])
    found = output.logprobs[seq.id]
    expected = logits.double().log_softmax(-1)
    assert output.tokens[seq.id] != likeliest, "the penalty must bite for this test to tell"
    assert found.logprob == pytest.approx(float(expected[output.tokens[seq.id]]))
    order = sorted(range(30), key=lambda i: (-float(expected[i]), i))[:4]
    assert [token for token, _ in found.top] == order
    assert [value for _, value in found.top] == pytest.approx([float(expected[i]) for i in order])


def test_logprobs_without_alternatives() -> None:
    seq = sequence(replace(GREEDY, logprobs=0))
    found = Sampler([EOS], 3).sample(torch.tensor([[0.0, 0.0, 0.0]]), [seq]).logprobs[seq.id]
    assert found.logprob == pytest.approx(-math.log(3))
    assert found.top == ()


def test_counts_follow_a_sequence_that_grows_and_one_that_takes_its_name() -> None:
    sampler = Sampler([EOS], 10)
    logits = torch.tensor([[0.0] * 8 + [3.0, 2.0]])
    sampling = replace(GREEDY, frequency_penalty=2.0)
    seq = sequence(sampling)
    tokens = []
    for _ in range(4):
        token = sampler.sample(logits, [seq]).tokens[seq.id]
        tokens.append(token)
        seq.token_ids.append(token)
        seq.n_known += 1
    assert tokens == [8, 9, 8, 0]
    again = Sequence(seq.request, 2, (), 1)
    assert sampler.sample(logits, [again]).tokens[seq.id] == 8
    sampler.forget(seq.id)
    sampler.forget(RequestId("never seen"))
    assert sampler.sample(logits, [seq]).tokens[seq.id] == 1


def test_undefined_logits_yield_some_token() -> None:
    """A broken model must not take the engine and everyone's requests down."""
    for bad in (math.nan, -math.inf, math.inf):
        for sampling in (GREEDY, Sampling(), Sampling(top_p=0.5, logprobs=2)):
            assert 0 <= sample_one([bad] * 6, sequence(sampling)) < 6


SEEDED = Sampling(temperature=0.9, top_p=0.95, seed=17, ignore_eos=True, frequency_penalty=0.3)


def test_equal_seeds_say_the_same_and_others_do_not(start: Callable[..., Any]) -> None:
    driver = start("llama")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        driver.add(name, range(2, 40), replace(SEEDED, seed=seed))
    driver.produce(20, 50)
    a, b, c = (driver.produced(name)[:20] for name in "abc")
    assert a == b != c


@pytest.mark.parametrize("sampling", [SEEDED, replace(SEEDED, repetition_penalty=1.2)])
def test_a_resumed_sequence_continues_as_if_nothing_had_happened(
    start: Callable[..., Any], sampling: Sampling
) -> None:
    """Elsewhere, from prompt and tokens produced so far, in another batch."""
    first, second = start("llama"), start("llama")
    first.add("r", range(2, 60), sampling)
    first.produce(24)
    whole = first.produced("r")
    second.add("other", range(9, 30), SEEDED)
    second.produce(3)
    second.add("r", range(2, 60), sampling, whole[:11])
    second.produce(24, 30)
    assert second.produced("r")[:24] == whole
