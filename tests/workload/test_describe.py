"""What a trace is like, found in one pass, is what numpy finds with everything in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.workload.columns import TraceColumns
from fairlead.workload.describe import describe
from fairlead.workload.row import IdRuns
from fairlead.workload.stream_counts import (
    EXACT_BELOW,
    Busiest,
    Gaps,
    LengthCounts,
    RateBins,
    Reuse,
)
from fairlead.workload.trace import open_trace

SHARED = Path(__file__).parents[2] / ".." / "shared" / "traces"

parted = st.lists(st.lists(st.integers(1, 3000), min_size=1, max_size=20), min_size=1, max_size=6)


def columns(arrivals: list[float], first: int = 0, **others: Any) -> TraceColumns:
    n = len(arrivals)
    ones = np.ones(n, dtype=np.int64)
    index = np.arange(first, first + n)
    return TraceColumns(index, np.array(arrivals), 50 * ones, ones, 16, others)


@given(parts=parted, longest=st.integers(1, 10 * EXACT_BELOW))
def test_lengths_are_exact_whatever_their_number(parts: list[list[int]], longest: int) -> None:
    counts = LengthCounts()
    for part in [*parts, [longest]]:
        counts.add(np.array(part))
    every = np.array([x for part in parts for x in part] + [longest])
    assert counts.mean == pytest.approx(every.mean())
    for q in (0.0, 0.5, 0.9, 1.0):
        assert counts.quantile(q) == np.quantile(every, q, method="inverted_cdf")
    assert sum(counts.bins([0, 10, 100])) == len(every)
    assert counts.bins([0, 10, 100])[1] == ((every >= 10) & (every < 100)).sum()


@given(parts=parted)
def test_gaps_and_busy_seconds_are_exact_over_parts(parts: list[list[int]]) -> None:
    times = np.sort([x / 100 for part in parts for x in part])
    times = times - times[0]
    gaps, second, bins = Gaps(), Busiest(1.0), RateBins()
    start = 0
    for part in parts:
        piece = times[start : start + len(part)]
        for tally in (gaps, second, bins):
            tally.add(piece)
        start += len(part)
    assert second.most == np.bincount(times.astype(int)).max()
    between = np.diff(times)
    if len(between) >= 2 and between.mean() > 0:
        assert gaps.cv == pytest.approx(between.std() / between.mean())


def test_bins_widen_and_lose_nobody() -> None:
    bins = RateBins()
    for first in range(0, 100_000, 1000):
        bins.add(np.arange(first, first + 1000, dtype=np.float64))
    rates = bins.rates(100_000, 10)
    assert rates == pytest.approx([1.0] * 10, rel=0.01)
    assert bins.width_s >= 100_000 / 4096


def test_blocks_count_as_reusable_from_the_first_that_was_there_before() -> None:
    reuse = Reuse()
    counted = [reuse.add(ids) for ids in ((1, 2, 3), (1, 2, 4), (9, 1), (), (1, 2, 4, 5))]
    assert counted == [0, 2, 0, 0, 3]
    assert (reuse.blocks, reuse.reusable) == (12, 5)


@given(
    st.lists(st.lists(st.integers(0, 30), max_size=6, unique=True), max_size=12),
    st.sampled_from([0, 2**40, 2**63]),
)
def test_large_ids_are_counted_like_small_ones(requests: list[list[int]], offset: int) -> None:
    small, large = Reuse(), Reuse()
    for ids in requests:
        assert small.add(ids) == large.add([id + offset for id in ids])


def test_runs_of_ids_are_counted_as_ids() -> None:
    reuse = Reuse()
    assert reuse.add(IdRuns((0, 3, 10, 2))) == 0
    assert reuse.add((0, 1, 2, 10, 12)) == 4


def test_sessions_tenants_and_prefixes() -> None:
    part = columns(
        [0.0, 1.0, 2.0, 9.0],
        session_id=["a", "a", "b", None],
        agent_id=["main", "sub", "main", None],
        tool_gap_s=[None, 2.0, None, None],
        tenant=["x", "x", "y", ""],
        hash_ids=[(1, 2), (1, 2, 3), (1,), ()],
    )
    found = describe([part]).to_json()
    assert found["sessions"]["total"] == 2
    assert found["sessions"]["turns"]["max"] == 2
    assert found["sessions"]["agents"] == 3
    assert found["sessions"]["gap_s"]["mean"] == pytest.approx(2.0)
    assert found["tenants"] == {"total": 2, "largest": {"x": pytest.approx(2 / 3), "y": 1 / 3}}
    assert found["prefixes"]["reusable_blocks"] == pytest.approx(3 / 6)
    assert found["prefixes"]["reusable_tokens"] == pytest.approx(48 / 200)
    assert found["arrivals"]["rate_rps"] == pytest.approx(3 / 9)


def test_what_a_trace_does_not_say_is_null() -> None:
    part = TraceColumns(np.arange(2), None, np.array([1, 2]), np.array([1, 2]))
    found = describe([part]).to_json()
    assert found["rows"] == 2
    names = ("arrivals", "sessions", "tenants", "models", "prefixes")
    assert [found[name] for name in names] == [None] * 5
    at_once = describe([columns([3.0, 3.0])]).to_json()
    assert at_once["arrivals"]["rate_rps"] is None


@pytest.mark.skipif(not SHARED.exists(), reason="the shared traces are not on this machine")
def test_shared_traces_are_described_as_their_readme_does() -> None:
    trace = open_trace(SHARED / "azure2023_conv.parquet")
    found = describe(trace.parts()).to_json()
    assert found["rows"] == 13_826
    assert found["prompt_tokens"]["p99"] == 4122
    assert found["arrivals"]["rate_rps"] == pytest.approx(5.92, abs=0.01)
    assert found["arrivals"]["gap_cv"] == pytest.approx(1.08, abs=0.01)
    assert found["arrivals"]["busiest_second"] == pytest.approx(2.7, abs=0.01)
    assert found["arrivals"]["busiest_minute"] == pytest.approx(1.43, abs=0.01)
    reuse = describe(open_trace(SHARED / "mooncake_arxiv_head.parquet").parts()).to_json()
    assert reuse["prefixes"]["reusable_blocks"] == pytest.approx(0.337, abs=0.001)
