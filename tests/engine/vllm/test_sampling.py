"""Sampling parameters on their way to vLLM."""

from __future__ import annotations

from fairlead.engine.vllm.sampling import arguments, draws, token_seed
from fairlead.instance.sequence import Sequence
from fairlead.model import Request, RequestId, Sampling


def a_sequence(seed: int, produced: tuple[int, ...] = ()) -> Sequence:
    sampling = Sampling(seed=seed)
    request = Request(RequestId("r1"), 0.0, 2, 9, token_ids=[1, 2], sampling=sampling)
    return Sequence(request, 1, produced, 1)


def test_names_and_meanings_are_the_same() -> None:
    sampling = Sampling(0.7, 0.9, 40, 0.05, 0.1, 0.2, 1.1, logprobs=3, min_tokens=2)
    found = arguments(sampling, [], 100)
    for name in ("temperature", "top_p", "top_k", "min_p", "presence_penalty", "logprobs"):
        assert found[name] == getattr(sampling, name)
    for name in ("frequency_penalty", "repetition_penalty", "min_tokens"):
        assert found[name] == getattr(sampling, name)


def test_what_ends_an_answer_may_not_come_before_min_tokens() -> None:
    assert arguments(Sampling(stop_token_ids=(9, 100)), [2], 100)["stop_token_ids"] == [2, 9]
    kept = arguments(Sampling(stop_token_ids=(9,), ignore_eos=True), [2], 100)
    assert kept["stop_token_ids"] == [9]


def test_a_token_depends_on_seed_and_position_alone() -> None:
    assert token_seed(a_sequence(7, (1, 2))) == token_seed(a_sequence(7, (8, 9)))
    seeds = [token_seed(a_sequence(s, (0,) * n)) for s in range(8) for n in range(8)]
    assert len(set(seeds)) == 64
    assert all(0 <= seed < 1 << 63 for seed in seeds), "what a generator takes"


def test_greedy_ones_draw_nothing() -> None:
    assert not draws(Sampling(temperature=0.0))
    assert draws(Sampling(temperature=0.1))
