"""Drawn workloads have the rates, lengths and shared prefixes that were asked for, by seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.model import ConfigError
from fairlead.workload.columns import TraceColumns, joined
from fairlead.workload.generate.arrivals import (
    Constant,
    Gamma,
    Process,
    each,
    parse_process,
    text_of,
)
from fairlead.workload.generate.conversations import Conversations
from fairlead.workload.generate.lengths import Constant as Always
from fairlead.workload.generate.lengths import (
    Distribution,
    Empirical,
    Exponential,
    Lognormal,
    draw_tokens,
    parse_distribution,
)
from fairlead.workload.generate.open_loop import Independent, OpenLoop, Pairs
from fairlead.workload.generate.sharing import parse_sharing, zipf
from fairlead.workload.generate.streams import stream

PROCESSES = [
    "poisson:rate=8",
    "gamma:rate=8,cv=3",
    "gamma:rate=8,cv=0.3",
    "bursts:rate=8,on=2,off=6",
    "diurnal:rate=8,period=60,amplitude=1",
    "constant:rate=8",
]


def times(process: Process, seed: int, n: int) -> list[float]:
    return list(islice(each(process, stream(seed, "test")), n))


@pytest.mark.parametrize("text", PROCESSES)
def test_a_process_has_its_mean_rate_and_never_goes_back(text: str) -> None:
    drawn = np.array(times(parse_process(text), 1, 200_000))
    assert (np.diff(drawn) >= 0).all()
    assert drawn[0] >= 0
    assert len(drawn) / drawn[-1] == pytest.approx(8, rel=0.06)


@pytest.mark.parametrize("text", PROCESSES)
def test_equal_seeds_draw_equal_times(text: str) -> None:
    process = parse_process(text)
    assert times(process, 1, 3000) == times(process, 1, 3000)
    if text != "constant:rate=8":
        assert times(process, 1, 30) != times(process, 2, 30)


@pytest.mark.parametrize("cv", [0.3, 1.0, 3.0])
def test_gamma_gaps_have_their_cv(cv: float) -> None:
    gaps = np.diff(times(Gamma(5, cv), 3, 40_000))
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05)


def test_a_gamma_process_does_not_begin_with_a_crowd() -> None:
    """Seen from any moment, the arrivals of the first second are as many as of any other."""
    first = [sum(t < 1 for t in times(Gamma(5, 4), seed, 300)) for seed in range(3000)]
    assert np.mean(first) == pytest.approx(5, rel=0.12)


def test_bursts_are_bursts_and_a_diurnal_rate_swings() -> None:
    bursts = np.array(times(parse_process("bursts:rate=8,on=2,off=6"), 1, 20_000))
    per_s = np.bincount(bursts.astype(int))
    assert (per_s == 0).mean() > 0.5
    assert per_s.var() / per_s.mean() > 5
    swing = np.array(times(parse_process("diurnal:rate=8,period=60,amplitude=0.8"), 1, 40_000))
    quarter = np.bincount((swing % 60 // 15).astype(int), minlength=4)
    # The sine's mean over its first half is 2/pi.
    assert quarter[:2].sum() / quarter.sum() == pytest.approx(0.5 + 0.8 / np.pi, rel=0.02)


def test_a_process_is_written_as_it_is_read() -> None:
    assert text_of(parse_process("gamma:rate=5,cv=3")) == "gamma:rate=5,cv=3"
    assert parse_process("constant", rate=4) == Constant(4.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gama:rate=1", "Did you mean gamma"),
        ("gamma", "rate is missing, as in gamma:rate=5,cv=2"),
        ("gamma:rate=1,vc=2", "'vc' is not known; expected one of rate, cv"),
        ("gamma:rate=fast", "rate is 'fast', expected a number"),
        ("gamma:rate", "'rate' is not KEY=VALUE"),
        ("poisson:rate=-1", "rate must be a number above 0"),
        ("poisson:rate=nan", "rate must be a number above 0"),
        ("poisson:rate=inf", "rate must be a number above 0"),
        ("gamma:rate=1,cv=1e9", "cv must be at most 100"),
        ("diurnal:rate=1,amplitude=2", "amplitude must be between 0 and 1"),
        ("bursts:rate=1e-9", "expected a higher rate"),
    ],
)
def test_an_impossible_process_gets_a_clear_message(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_process(text)


@pytest.mark.parametrize(
    ("text", "median", "mean"),
    [
        ("constant:value=512", 512, 512),
        ("512", 512, 512),
        ("exp:mean=200", 139, 200),
        ("lognormal:median=1000,sigma=0.5", 1000, 1133),
        ("uniform:min=100,max=300", 200, 200),
        ("power:alpha=1,min=10,max=1000", 100, 215),
        ("power:alpha=2,min=10,max=1000", 19.8, 46.5),
    ],
)
def test_lengths_have_their_distribution(text: str, median: float, mean: float) -> None:
    drawn = parse_distribution("--prompt", text).draw(stream(0, "x"), 60_000)
    assert np.median(drawn) == pytest.approx(median, rel=0.03)
    assert drawn.mean() == pytest.approx(mean, rel=0.04)


def test_lengths_are_whole_and_at_least_one() -> None:
    for law in (Exponential(0.5), Lognormal(2, 400), Always(0)):
        drawn = draw_tokens(law, stream(0, "x"), 1000)
        assert drawn.dtype == np.int64
        assert drawn.min() >= 1
    assert Exponential(200, min=50, max=300).draw(stream(0, "x"), 5000).max() == 300


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("exp:mean=0", "mean must be a number above 0"),
        ("uniform:min=5,max=1", "0 <= min <= max"),
        ("-3", "at least 0"),
        ("nan", "at least 0"),
        ("power:alpha=1,min=0,max=9", "min must be a number above 0"),
        ("weibull:k=1", "expected one of lognormal"),
    ],
)
def test_an_impossible_distribution_gets_a_clear_message(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_distribution("--prompt", text)


@given(
    samples=st.lists(st.integers(1, 50), min_size=1, max_size=30),
    seed=st.integers(0, 1000),
)
def test_an_empirical_law_draws_only_what_was_seen(samples: list[int], seed: int) -> None:
    law = Empirical.of(np.array(samples))
    assert set(law.draw(stream(seed, "x"), 200).tolist()) <= set(samples)
    assert law.mean == pytest.approx(np.mean(samples))


def test_an_empirical_law_draws_as_often_as_was_seen() -> None:
    law = Empirical.of(np.array([5, 9, 70]), np.array([1, 0, 3]))
    drawn = Counter(law.draw(stream(0, "x"), 20_000).tolist())
    assert set(drawn) == {5.0, 70.0}
    assert drawn[70.0] / 20_000 == pytest.approx(0.75, rel=0.02)


# ---------------------------------------------------------------- whole workloads


def open_loop(seed: int = 0, **fields: object) -> OpenLoop:
    lengths = Independent(Exponential(100), Always(7))
    process = parse_process("poisson:rate=20")
    return OpenLoop(process, lengths, seed, **fields)  # type: ignore[arg-type]


def whole(parts: Iterator[TraceColumns]) -> TraceColumns:
    return joined(list(parts))


def same(a: TraceColumns, b: TraceColumns) -> bool:
    return list(a.rows()) == list(b.rows())


def test_a_duration_and_a_number_of_requests_end_it() -> None:
    by_time = whole(open_loop(duration_s=100.0).parts())
    assert by_time.arrival_s is not None
    assert by_time.arrival_s[-1] < 100
    assert len(by_time) == pytest.approx(2000, rel=0.1)
    by_number = whole(open_loop(n_requests=1500).parts())
    assert by_number.index.tolist() == list(range(1500))
    both = whole(open_loop(duration_s=100.0, n_requests=50).parts())
    assert same(both, by_number.part(0, 50))


def test_equal_seeds_make_equal_workloads_and_others_do_not() -> None:
    sharing = parse_sharing("system:n=5,tokens=64")
    a = whole(open_loop(3, n_requests=2000, sharing=sharing).parts())
    assert same(a, whole(open_loop(3, n_requests=2000, sharing=sharing).parts()))
    assert not same(a, whole(open_loop(4, n_requests=2000, sharing=sharing).parts()))


def test_another_purpose_leaves_the_draws_of_the_others_alone() -> None:
    plain = whole(open_loop(n_requests=2000).parts())
    shared = whole(
        open_loop(n_requests=2000, sharing=parse_sharing("system:n=5,tokens=64")).parts()
    )
    assert plain.arrival_s is not None
    assert shared.arrival_s is not None
    assert (plain.arrival_s == shared.arrival_s).all()
    assert (plain.prompt_tokens + 64 == shared.prompt_tokens).all()


def test_pairs_keep_prompt_and_output_together() -> None:
    pairs = Pairs(np.array([10, 20, 30]), np.array([1, 2, 3]))
    prompts, outputs = pairs.draw(0)(1000)
    assert (prompts == 10 * outputs).all()
    assert set(outputs.tolist()) == {1, 2, 3}


def test_popularity_follows_zipf() -> None:
    counts = np.bincount(zipf(stream(0, "x"), 50, 1.0, 100_000), minlength=50)
    assert counts[0] / counts[9] == pytest.approx(10, rel=0.1)
    assert (np.bincount(zipf(stream(0, "x"), 4, 0.0, 40_000)) / 40_000) == pytest.approx(
        0.25, rel=0.05
    )


def test_system_prompts_share_their_full_blocks_and_no_others() -> None:
    sharing = parse_sharing("system:n=3,tokens=100,alpha=0")
    drawn = sharing.draw(stream(0, "x"), 300, 16)
    assert len(set(drawn)) == 3
    assert all(len(ids) == 6 for ids in drawn)
    assert len({id for ids in set(drawn) for id in ids}) == 18
    assert max(max(ids) for ids in drawn) == sharing.n_ids(16)


@pytest.mark.parametrize("tokens", [16, 40, 64])
def test_paths_of_a_tree_share_what_their_levels_share(tokens: int) -> None:
    """Two prompts have a block in common exactly where their paths agree down to its end."""
    sharing = parse_sharing(f"tree:depth=3,branch=2,tokens={tokens},alpha=0")
    drawn = sorted(set(sharing.draw(stream(0, "x"), 500, 16)))
    assert len(drawn) == 8
    n_blocks = 3 * tokens // 16
    assert all(len(ids) == n_blocks for ids in drawn)
    for block in range(n_blocks):
        deepest = ((block + 1) * 16 - 1) // tokens
        assert len({ids[block] for ids in drawn}) == 2 ** (deepest + 1)
    every = {id for ids in drawn for id in ids}
    assert max(every) <= sharing.n_ids(16)
    # An id never stands for two contents.
    assert len(every) == sum(len({ids[block] for ids in drawn}) for block in range(n_blocks))


def test_conversations_grow_by_all_that_was_said() -> None:
    made = Conversations(
        n_sessions=300,
        turns=Exponential(5),
        lengths=Independent(Exponential(80), Exponential(60)),
        gap=Always(3),
        sharing=parse_sharing("system:n=2,tokens=64"),
    )
    rows = list(whole(made.parts()).rows())
    assert [row.index for row in rows] == list(range(len(rows)))
    assert len({row.session_id for row in rows}) == 300
    owners: dict[int, str | None] = {}
    for before, row in pairwise(rows):
        assert len(row.hash_ids) == row.prompt_tokens // 16
        for id in row.hash_ids[4:]:
            assert owners.setdefault(id, row.session_id) == row.session_id
        if row.turn:
            assert row.session_id == before.session_id
            assert row.turn == (before.turn or 0) + 1
            assert row.prompt_tokens > before.prompt_tokens + before.output_tokens
            assert tuple(row.hash_ids[: len(before.hash_ids)]) == before.hash_ids
            assert row.tool_gap_s == 3
        else:
            assert row.tool_gap_s is None
    assert len({row.hash_ids[:4] for row in rows}) == 2


def test_a_conversation_ends_before_it_outgrows_the_context() -> None:
    made = Conversations(
        5, Always(100), Independent(Always(50), Always(50)), Always(1), most_prompt_tokens=1000
    )
    columns = whole(made.parts())
    assert columns.prompt_tokens.max() == 950
    assert len(columns) == 5 * 10


def test_distributions_all_follow_the_protocol() -> None:
    law: Distribution = Lognormal(10)
    assert len(law.draw(stream(0, "x"), 3)) == 3
