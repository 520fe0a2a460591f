"""The simulator answers to queueing theory.

An engine whose every step takes the same time, whatever is in it, is a row of servers: each of its
`max_sequences` places serves one request for as many steps as it makes tokens, and who finds no
place waits in one line. Its waits must be those of the textbook: request for request those of
Kiefer and Wolfowitz, and in the mean, within their confidence interval, those of the closed forms.
A place that is free is taken at the next step, so a wait may be up to one step longer; the
intervals say so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heapreplace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize, stats

from fairlead.fleet.config import FleetConfig, read_config
from fairlead.latency import Linear
from fairlead.latency.profile import Profile
from fairlead.latency.profile_text import format_profile
from fairlead.simulate import simulate
from fairlead.workload.trace import TraceRow

STEP_S = 0.001
MEAN_TOKENS = 100
BUSY = 0.6
"""Fraction of the servers' time that is asked for."""
N_REQUESTS = 4500
N_BATCHES = 15
"""Means of so many stretches of a run are held to be independent."""

PRECISION = 0.75
"""Widest interval, as a fraction of the wait, that still tells the closed forms apart."""

Lengths = Callable[[Random], float]
Waits = NDArray[np.float64]


def fleet(folder: Path, model: Linear, *, instances: int = 1, max_sequences: int) -> FleetConfig:
    """Engines of that speed, with memory for everybody and nothing between them and the client."""
    path = folder / "engine.toml"
    profile = Profile(
        name="a row of servers",
        gpu="none",
        model="m",
        precision="bf16",
        tensor_parallel=1,
        gpu_memory_bytes=1 << 40,
        weights_bytes=1,
        kv_bytes_per_token=1,
        max_context=1 << 20,
        coefficients=model.coefficients(),
        added={},
        errors={},
        end_to_end=None,
        source="made up",
        licence="none",
        host_source="made up",
    )
    path.write_text(format_profile(profile))
    pool = {
        "model": "m",
        "engine": "emulated",
        "hardware": str(path),
        "instances": instances,
        "n_blocks": 1 << 20,
        "max_sequences": max_sequences,
        "max_waiting": 1 << 20,
    }
    return read_config(
        {
            "pool": [pool],
            "policy": {"admission": "always", "routing": "round-robin", "batching": "fcfs"},
            "simulation": {"max_tokens": 1 << 16, "delay_s": 0.0, "jitter_s": 0.0},
        }
    )


def poisson(servers: int, length: Lengths, seed: int, n: int = N_REQUESTS) -> list[TraceRow]:
    """Requests at random times that keep so many servers `BUSY`."""
    draw = Random(seed)
    rate_rps = BUSY * servers / (MEAN_TOKENS * STEP_S)
    rows, now = [], 0.0
    for i in range(n):
        now += draw.expovariate(rate_rps)
        rows.append(TraceRow(i, now, 1, max(1, round(length(draw)))))
    return rows


def exponential(draw: Random) -> float:
    return draw.expovariate(1 / MEAN_TOKENS)


def constant(draw: Random) -> float:
    return MEAN_TOKENS


def short_or_long(draw: Random) -> float:
    """Two kinds of request (a hyperexponential law): a squared variation of 2."""
    share = (1 + math.sqrt(1 / 3)) / 2
    kind = share if draw.random() < share else 1 - share
    return draw.expovariate(2 * kind / MEAN_TOKENS)


def two_phases(draw: Random) -> float:
    """A sum of two exponential times (an Erlang law): a squared variation of one half."""
    return draw.expovariate(2 / MEAN_TOKENS) + draw.expovariate(2 / MEAN_TOKENS)


def waits_of(config: FleetConfig, rows: list[TraceRow]) -> Waits:
    """Seconds from arrival to the first step, in order of arrival."""
    columns = simulate(config, rows).columns
    assert columns.finished.all()
    order = np.argsort(columns.arrival_s, kind="stable")
    return np.asarray((columns.ttft_s - STEP_S)[order])


def kiefer_wolfowitz(rows: list[TraceRow], servers: int) -> Waits:
    """The waits of first come, first served at so many servers, one by one."""
    free_s = [0.0] * servers
    waits = []
    for row in rows:
        assert row.arrival_s is not None
        begins_s = max(free_s[0], row.arrival_s)
        heapreplace(free_s, begins_s + row.output_tokens * STEP_S)
        waits.append(begins_s - row.arrival_s)
    return np.array(waits)


@pytest.mark.parametrize("servers", [1, 3])
def test_each_wait_is_that_of_the_textbook(servers: int, tmp_path: Path) -> None:
    config = fleet(tmp_path, Linear(base_s=STEP_S), max_sequences=servers)
    rows = poisson(servers, exponential, seed=1, n=2000)
    late = waits_of(config, rows) - kiefer_wolfowitz(rows, servers)
    assert late.min() > -1e-9
    assert late.max() < (1e-9 if servers == 1 else STEP_S)


def erlang_c(servers: int) -> float:
    """The probability that all servers are taken (M/M/c)."""
    load = BUSY * servers
    all_taken = load**servers / math.factorial(servers) / (1 - BUSY)
    return all_taken / (sum(load**k / math.factorial(k) for k in range(servers)) + all_taken)


def mean_wait_s(servers: int, variation: float = 1.0) -> float:
    """Allen and Cunneen: the M/M/c wait, times half of one plus the squared variation of service.

    Exact for exponential service, and for one server whatever the law (Pollaczek and Khinchine).
    """
    exponential_s = erlang_c(servers) * MEAN_TOKENS * STEP_S / (servers * (1 - BUSY))
    return exponential_s * (1 + variation) / 2


def interval_s(waits: Waits) -> tuple[float, float]:
    """Where the true mean lies in 99 of 100 runs, by the means of batches; the first batch is the
    queue filling up, and is left out."""
    batches = waits.reshape(N_BATCHES, -1).mean(axis=1)[1:]
    half = stats.t.ppf(0.995, len(batches) - 1) * batches.std(ddof=1) / math.sqrt(len(batches))
    return batches.mean() - half, batches.mean() + half


@pytest.mark.parametrize(
    ("servers", "length", "variation", "model_error"),
    [
        (1, exponential, 1.0, 0.0),
        (4, exponential, 1.0, 0.0),
        (1, constant, 0.0, 0.0),
        (1, short_or_long, 2.0, 0.0),
        (4, two_phases, 0.5, 0.05),
    ],
    ids=["M/M/1", "M/M/4", "M/D/1", "M/G/1", "M/G/4"],
)
def test_the_mean_wait_is_that_of_the_closed_form(
    servers: int, length: Lengths, variation: float, model_error: float, tmp_path: Path
) -> None:
    config = fleet(tmp_path, Linear(base_s=STEP_S), max_sequences=servers)
    low_s, high_s = interval_s(waits_of(config, poisson(servers, length, seed=2)))
    theory_s = mean_wait_s(servers, variation)
    assert low_s - model_error * theory_s - STEP_S <= theory_s <= high_s + model_error * theory_s
    assert high_s - low_s < PRECISION * theory_s, "too wide to say anything"


def test_round_robin_over_three_instances_is_a_queue_with_erlang_arrivals(tmp_path: Path) -> None:
    """Each instance sees every third arrival of a Poisson stream: E3/M/1, whose mean wait follows
    from the root of s = A(mu (1 - s)), with A the transform of the gaps between arrivals."""
    config = fleet(tmp_path, Linear(base_s=STEP_S), instances=3, max_sequences=1)
    low_s, high_s = interval_s(waits_of(config, poisson(3, exponential, seed=3)))
    per_s = 1 / (MEAN_TOKENS * STEP_S)
    rate_rps = 3 * BUSY * per_s
    root = optimize.brentq(
        lambda s: (rate_rps / (rate_rps + per_s * (1 - s))) ** 3 - s, 0.0, 1 - 1e-6
    )
    theory_s = root / (per_s * (1 - root))
    assert low_s - STEP_S <= theory_s <= high_s
    assert high_s - low_s < PRECISION * theory_s, "too wide to say anything"


def test_a_decode_batch_takes_what_one_adds_up_by_hand(tmp_path: Path) -> None:
    """One request begins alone; two more come while its prompt is computed, and are computed beside
    its first decode; then all make one token a step until each has all of its own."""
    model = Linear(
        base_s=0.005,
        gemm_s_per_token=1e-4,
        decode_s_per_sequence=2e-4,
        decode_s_per_context_token=3e-6,
        prefill_s_per_pair=1e-8,
    )
    lengths = {40: 700, 100: 30, 300: 220}  # prompt tokens to output tokens
    rows = [
        TraceRow(i, 0.001 * i, prompt, output) for i, (prompt, output) in enumerate(lengths.items())
    ]
    columns = simulate(fleet(tmp_path, model, max_sequences=8), rows).columns

    alone_s = 0.005 + 40 * 1e-4 + 40 * 40 / 2 * 1e-8
    pairs = (100 * 100 + 300 * 300) / 2
    joined_s = 0.005 + 401 * 1e-4 + 2e-4 + 41 * 3e-6 + pairs * 1e-8
    now_s, made = alone_s + joined_s, {40: 2, 100: 1, 300: 1}
    ends_s = {}
    while made:
        now_s += 0.005 + len(made) * 3e-4 + sum(p + n for p, n in made.items()) * 3e-6
        made = {p: n + 1 for p, n in made.items()}
        ends_s |= {p: now_s for p, n in made.items() if n == lengths[p]}
        made = {p: n for p, n in made.items() if n < lengths[p]}

    found = dict(zip(columns.prompt_tokens, columns.last_s, strict=True))
    assert found == pytest.approx(ends_s, abs=1e-9)
