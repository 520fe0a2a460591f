"""The figures of a run add up, keep their schema, and do not depend on the order of requests."""

from __future__ import annotations

import json
import math
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.model import BATCH, Objective
from fairlead.workload.curves import MAX_BINS, LoadSample, curves
from fairlead.workload.percentiles import NOT_MEASURED, Histogram, Percentiles
from fairlead.workload.records import Ending, RecordColumns, RequestRecord
from fairlead.workload.summary import RunFacts, Summary, summarize

INTERACTIVE = Objective("interactive", ttft_s=1.0, tpot_s=0.05)
TASK = Objective("task", deadline_s=5.0)
OBJECTIVES = (INTERACTIVE, TASK, BATCH)

KEYS = [
    "fairlead", "trace", "fleet", "policy", "seed", "duration_s", "wall_s", "requests",
    "attainment", "goodput_rps", "goodput_tokens_per_s", "ttft_s", "tpot_s", "itl_s", "e2e_s",
    "queue_s", "prompt_tokens_per_s", "output_tokens_per_s", "prefix_hit_ratio", "preemptions",
    "handoffs", "handoff_downtime_s", "instances", "cost", "energy_j", "classes", "tenants",
    "programs", "prediction", "digest",
]  # fmt: skip
POINTS = ["mean", "p50", "p90", "p99", "max"]


def finished(
    arrival_s: float,
    ttft_s: float,
    tpot_s: float,
    n: int,
    objective: Objective = BATCH,
    **more: Any,
) -> RequestRecord:
    first_s = arrival_s + ttft_s
    return RequestRecord(
        id="r",
        arrival_s=arrival_s,
        ending=Ending.FINISHED,
        objective=objective,
        first_token_s=first_s,
        last_token_s=first_s + tpot_s * (n - 1),
        prompt_tokens=100,
        output_tokens=n,
        **more,
    )


@st.composite
def records(draw: st.DrawFn) -> RequestRecord:
    arrival_s = draw(st.floats(0, 100))
    ending = draw(st.sampled_from(Ending))
    n = draw(st.integers(0, 50)) if ending is not Ending.REJECTED else 0
    first_s = arrival_s + draw(st.floats(0, 3)) if n else None
    last_s = first_s + draw(st.floats(0, 0.1)) * (n - 1) if first_s is not None else None
    prompt = draw(st.integers(1, 1000))
    return RequestRecord(
        id="r",
        arrival_s=arrival_s,
        ending=ending,
        objective=draw(st.sampled_from(OBJECTIVES)),
        tenant=draw(st.sampled_from(["", "a", "b"])),
        program=draw(st.sampled_from([None, "p", "q"])),
        first_token_s=first_s,
        last_token_s=last_s,
        prompt_tokens=prompt,
        output_tokens=n,
        cached_tokens=draw(st.none() | st.integers(0, prompt)),
        queue_s=draw(st.none() | st.floats(0, 1)),
        resumed=draw(st.booleans()),
    )


def met_slowly(record: RequestRecord) -> bool:
    """One request by the book."""
    if record.ending is not Ending.FINISHED:
        return False
    if record.first_token_s is None or record.last_token_s is None:
        return not record.objective.timed
    tpot_s = None
    if record.output_tokens > 1:
        tpot_s = (record.last_token_s - record.first_token_s) / (record.output_tokens - 1)
    return record.objective.met(
        record.first_token_s - record.arrival_s, tpot_s, record.last_token_s - record.arrival_s
    )


def percentiles_in(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        if list(value) == POINTS:
            return [value]
        return [found for inner in value.values() for found in percentiles_in(inner)]
    return []


@given(st.lists(records(), max_size=10))
def test_totals_add_up(run: list[RequestRecord]) -> None:
    figures = summarize(run).to_json()
    by_ending = figures["requests"]
    assert by_ending["total"] == len(run)
    parts = ("finished", "rejected", "cancelled", "failed")
    assert sum(by_ending[part] for part in parts) == len(run)
    assert sum(group["total"] for group in figures["classes"].values()) == len(run)
    with_tenant = sum(1 for record in run if record.tenant)
    assert sum(group["total"] for group in figures["tenants"].values()) == with_tenant
    assert figures["programs"]["total"] == len({r.program for r in run} - {None})


@given(st.lists(records(), max_size=10))
def test_attainment_is_what_counting_one_by_one_gives(run: list[RequestRecord]) -> None:
    figures = summarize(run).to_json()
    if not run:
        assert figures["attainment"] is None
        return
    assert figures["attainment"] == pytest.approx(sum(map(met_slowly, run)) / len(run))
    for name, group in figures["classes"].items():
        mine = [record for record in run if record.objective.name == name]
        assert group["attainment"] == pytest.approx(sum(map(met_slowly, mine)) / len(mine))
        assert 0 <= group["attainment"] <= 1


@given(st.lists(records(), max_size=10))
def test_percentiles_never_fall(run: list[RequestRecord]) -> None:
    for found in percentiles_in(summarize(run).to_json()):
        points = [found[name] for name in ("p50", "p90", "p99", "max")]
        if points[0] is None:
            assert set(found.values()) == {None}
        else:
            assert points == sorted(points)
            assert found["mean"] <= found["max"] + 1e-9


@given(st.lists(records(), max_size=10), st.integers())
def test_the_order_of_requests_does_not_matter(run: list[RequestRecord], seed: int) -> None:
    mixed = list(run)
    Random(seed).shuffle(mixed)
    assert json.dumps(summarize(mixed).to_json()) == json.dumps(summarize(run).to_json())


@pytest.mark.parametrize("run", [[], [finished(0, 0.5, 0.01, 10)]])
def test_keys_and_their_order_are_a_promise(run: list[RequestRecord]) -> None:
    figures = summarize(run, RunFacts(trace="t", policy={"routing": "x"})).to_json()
    assert list(figures) == KEYS
    assert list(figures["requests"]) == [
        "total", "finished", "rejected", "cancelled", "failed", "resumed",
    ]  # fmt: skip
    assert list(figures["instances"]) == ["n_max", "hours", "busy_fraction"]
    assert list(figures["programs"]) == ["total", "attainment", "e2e_s"]
    assert list(figures["prediction"]) == ["ttft_error", "finish_error"]
    for group in figures["classes"].values():
        assert list(group) == ["total", "attainment", "ttft_s", "tpot_s", "e2e_s"]
    assert list(figures["ttft_s"]) == POINTS
    json.dumps(figures, allow_nan=False)


def test_figures_of_a_small_run_by_hand() -> None:
    run = [
        finished(0.0, 0.5, 0.04, 11, INTERACTIVE, cached_tokens=50),
        finished(1.0, 2.0, 0.04, 11, INTERACTIVE, cached_tokens=0),
        finished(2.0, 1.0, 0.2, 11, TASK),
        RequestRecord("r", 3.0, Ending.REJECTED, BATCH, ended_s=3.5, prompt_tokens=100),
        RequestRecord("r", 4.0, Ending.FAILED, BATCH, ended_s=10.0, prompt_tokens=100),
    ]
    figures = summarize(run).to_json()
    assert figures["duration_s"] == 10
    assert figures["attainment"] == pytest.approx(2 / 5)
    assert figures["goodput_rps"] == pytest.approx(0.2)
    assert figures["goodput_tokens_per_s"] == pytest.approx(2.2)
    assert figures["output_tokens_per_s"] == pytest.approx(3.3)
    assert figures["prompt_tokens_per_s"] == pytest.approx(30)
    assert figures["prefix_hit_ratio"] == pytest.approx(0.25)
    assert figures["ttft_s"]["max"] == pytest.approx(2)
    assert figures["tpot_s"]["p50"] == pytest.approx(0.04)
    assert figures["e2e_s"]["max"] == pytest.approx(3)
    assert figures["classes"]["batch"]["attainment"] == 0
    assert figures["classes"]["interactive"]["attainment"] == 0.5


def test_a_class_without_times_is_met_when_finished() -> None:
    no_token = RequestRecord("r", 0, Ending.FINISHED, BATCH, ended_s=1)
    assert summarize([no_token]).attainment == 1
    promised = RequestRecord("r", 0, Ending.FINISHED, INTERACTIVE, ended_s=1)
    assert summarize([promised]).attainment == 0


def test_a_single_token_has_no_time_per_token_to_miss() -> None:
    summary = summarize([finished(0, 0.5, 9.0, 1, INTERACTIVE)])
    assert summary.attainment == 1
    assert summary.tpot_s == NOT_MEASURED


def test_a_warm_up_is_left_out_only_when_asked_and_said_so() -> None:
    run = [finished(t, 0.1, 0.01, 5) for t in (0.0, 1.0, 2.0, 10.0)]
    assert "warmup_s" not in summarize(run).to_json()
    figures = summarize(run, warmup_s=1.5).to_json()
    assert (figures["warmup_s"], figures["warmup_requests"]) == (1.5, 2)
    assert figures["requests"]["total"] == 2
    assert figures["duration_s"] == pytest.approx(10.14 - 1.5)


def test_a_program_is_attained_when_all_of_its_requests_are() -> None:
    run = [
        finished(0, 0.5, 0.01, 5, INTERACTIVE, program="good"),
        finished(9, 0.5, 0.0, 5, INTERACTIVE, program="good"),
        finished(1, 0.5, 0.01, 5, INTERACTIVE, program="bad"),
        finished(2, 5.0, 0.01, 5, INTERACTIVE, program="bad"),
        RequestRecord("r", 3, Ending.FAILED, program="broken"),
    ]
    programs = summarize(run).programs
    assert (programs.total, programs.attainment) == (3, pytest.approx(1 / 3))
    assert programs.e2e_s.max == pytest.approx(9.5)


def test_gaps_between_tokens_come_from_token_times() -> None:
    run = [finished(0, 1, 0.1, 3, token_times_s=[1.0, 1.1, 1.5]), finished(0, 1, 0.1, 3)]
    assert summarize(run).itl_s.max == pytest.approx(0.4)
    assert summarize(run).itl_s.mean == pytest.approx(0.25)
    counted = Percentiles(1, 1, 1, 1, 1)
    assert summarize(run, itl_s=counted).itl_s == counted


def test_two_objectives_of_one_name_are_one_class() -> None:
    other = Objective("interactive", ttft_s=9.0)
    run = [finished(0, 2, 0.01, 5, INTERACTIVE), finished(0, 2, 0.01, 5, other)]
    (group,) = summarize(run).classes.values()
    assert (group.total, group.attainment) == (2, 0.5)


def test_further_keys_come_after_the_schema() -> None:
    summary = summarize([]).with_extra(interrupted=True, nothing=None)
    assert list(summary.to_json()) == [*KEYS, "interrupted"]
    assert isinstance(summary, Summary)


def test_the_drivers_own_count_of_resumed_requests_wins() -> None:
    assert summarize([], RunFacts(resumed=3)).requests["resumed"] == 3


@given(st.lists(st.floats(2e-6, 1e4), min_size=1, max_size=200))
def test_a_histogram_is_within_half_a_percent(values: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    found = histogram.percentiles()
    assert found.mean == pytest.approx(math.fsum(values) / len(values))
    assert found.max == max(values)
    exact = float(np.quantile(values, 0.5, method="inverted_cdf"))
    assert found.p50 == pytest.approx(exact, rel=0.006)
    points = [found.p50, found.p90, found.p99, found.max]
    assert points == sorted(points, key=lambda value: value or 0)


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=50))
def test_percentiles_are_those_of_numpy(values: list[float]) -> None:
    found = Percentiles.of(np.array([*values, np.nan]))
    exact = np.quantile(values, (0.5, 0.9, 0.99))
    assert (found.p50, found.p90, found.p99) == pytest.approx(tuple(exact))


def test_an_empty_histogram_measured_nothing() -> None:
    assert Histogram().percentiles() == NOT_MEASURED


def test_curves_count_every_arrival_and_thin_the_load() -> None:
    run = [finished(i * 0.5, 0.5 + (i % 2), 0.01, 5, INTERACTIVE) for i in range(1000)]
    load = [LoadSample(float(t), "i0", t, 0, None) for t in range(1000)]
    found = curves(RecordColumns(run).columns(), load)
    assert sum(found["arrivals_rps"]) * found["bin_s"] == pytest.approx(1000)
    assert sum(found["goodput_rps"]) * found["bin_s"] == pytest.approx(500)
    assert len(found["arrivals_rps"]) == len(found["goodput_rps"]) <= MAX_BINS
    assert len(found["load"]["i0"]["t_s"]) <= MAX_BINS
    ttft = found["classes"]["interactive"]["ttft_s"]
    assert (ttft["n"], ttft["quantiles"][0], ttft["quantiles"][-1]) == (1000, 0.5, 1.5)
    assert found["classes"]["interactive"]["objective"]["ttft_s"] == 1.0
    json.dumps(found, allow_nan=False)


def test_curves_of_nothing_are_empty() -> None:
    assert curves(RecordColumns().columns())["classes"] == {}
