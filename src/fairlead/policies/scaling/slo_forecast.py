"""As many instances as keep the objectives of what will arrive when a new one is up.

Source: our own.
Rule:   the work inside the pool is counted in instances' worth, by memory, by seats, and by the
        time of steps, each up to the load at which objectives are still kept; the most of the
        three counts. Divided by what arrived it is the cost of a request, and of a prompt token;
        times the rates forecast for when an instance asked for now would be up, it is what the
        pool needs. Down only to the highest need of the last `down_delay_s`.

Memory and seats grow with the rate (Little's law). Prefill and decoding share the time of steps:
where a pace is promised a step may last that long; the least ever predicted is its fixed part,
another is what the batch adds, and what is left is for prefill. The load of prefill that keeps
`attainment` of first tokens in time is that of an M/M/1 queue. That load is bounded from above in
two ways, by its price without any cached prefix, and by how many wait; the lower bound counts.

Limits: requests that admission turns away are forecast but cost nothing, so after them the pool
grows in steps; batch work may wait long, as it is promised nothing. State: buckets over
`window_s`, a few running means.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log
from random import Random
from statistics import fmean

from fairlead.model import RequestView
from fairlead.policies.registry import scaling
from fairlead.policies.scaling import demand
from fairlead.policies.scaling.highest import Highest
from fairlead.policies.scaling.load import in_flight, size
from fairlead.policies.scaling.parts import PoolView
from fairlead.policies.scaling.trend import Smoothed, Trend

BUCKET_S = 10.0
LEAST_LOAD, MOST_LOAD = 0.3, 0.9
"""Between these lies the load at which prefill keeps its objective, whatever the queue's formula
says: prompts are no exponential draws."""
SLACK = 0.02
"""Of an instance, for which no other is asked for: what is smoothed never quite gets there."""
MOST_OVERLOAD = 4.0
"""A pace so many times too slow says only that it is too slow."""


@dataclass(frozen=True, slots=True)
class Params:
    period_s: float = 5.0
    window_s: float = 300.0
    """Arrivals that the trend is taken from."""
    attainment: float = 0.95
    """Share of first tokens to be in time."""
    ttft_s: float = 5.0
    """Time to the first token to be kept where requests are promised none."""
    spare: float = 0.8
    """Of a promised pace, as much is used."""
    memory_fraction: float = 0.85
    """Of the memory, as much is used: contexts are not the same everywhere."""
    smooth_s: float = 15.0
    """Counts are means over about so long."""
    down_delay_s: float = 180.0

    def __post_init__(self) -> None:
        if min(self.period_s, self.window_s, self.ttft_s, self.smooth_s) <= 0:
            raise ValueError("period_s, window_s, ttft_s and smooth_s must be positive")
        if not 0 < self.attainment < 1:
            raise ValueError(f"attainment must be between 0 and 1, got {self.attainment}")
        if not (0 < self.spare <= 1 and 0 < self.memory_fraction <= 1):
            raise ValueError("spare and memory_fraction must be above 0 and at most 1")
        if self.down_delay_s < 0:
            raise ValueError(f"down_delay_s must be at least 0, got {self.down_delay_s}")


@scaling("slo-forecast", Params)
class SloForecast:
    def __init__(self, params: Params, rng: Random) -> None:
        self.period_s = params.period_s
        self._params = params
        self._requests = Trend(params.window_s, BUCKET_S)
        self._tokens = Trend(params.window_s, BUCKET_S)
        self._prompt_tokens = Smoothed(params.window_s)
        self._ttft_s = Smoothed(params.window_s)
        self._tpot_s = Smoothed(params.window_s)
        """What requests are promised."""
        self._waiting = Smoothed(params.smooth_s)
        """On each instance."""
        self._needed = Smoothed(params.smooth_s)
        self._request_cost = Smoothed(4 * params.smooth_s)
        self._token_cost = Smoothed(4 * params.smooth_s)
        """Instances for each request, or prompt token, a second."""
        self._least_tpot_s = float("inf")
        self._wants = Highest(params.down_delay_s)

    def arrived(self, request: RequestView, now: float) -> None:
        self._requests.add(now, 1.0)
        self._tokens.add(now, request.prompt_tokens)
        self._prompt_tokens.add(now, request.prompt_tokens)
        promised = request.objective
        if promised.ttft_s is not None:
            self._ttft_s.add(now, promised.ttft_s)
        if promised.tpot_s is not None:
            self._tpot_s.add(now, promised.tpot_s)

    def desired(self, pool: PoolView, now: float) -> int:
        need = self._inside(pool, now) if pool.hosts else 0.0
        ahead_s = pool.start_up_s + self.period_s
        for trend, cost in (
            (self._requests, self._request_cost),
            (self._tokens, self._token_cost),
        ):
            rate = trend.rate_per_s(now)
            if pool.hosts and rate > 0:
                cost.add(now, need / rate)
            need = max(need, trend.forecast_per_s(now, ahead_s) * (cost.value or 0.0))
        # Nothing is free: one instance, even if no cost is known yet.
        least = 1 if in_flight(pool) or self._requests.rate_per_s(now) > 0 else 0
        want = max(ceil(need - SLACK), least)
        return self._wants.settle(now, want, size(pool))

    def _inside(self, pool: PoolView, now: float) -> float:
        """Instances' worth of what is inside, smoothed."""
        prompt_tokens = self._prompt_tokens.value or 1.0
        memory = demand.memory(pool, prompt_tokens) / self._params.memory_fraction
        time = self._time(pool, max(int(prompt_tokens), 1), now)
        return self._needed.add(now, max(memory, demand.seats(pool), time))

    def _time(self, pool: PoolView, prompt_tokens: int, now: float) -> float:
        n, ttft_s = len(pool.hosts), self._ttft_s.value or self._params.ttft_s
        all_waiting = pool.n_queued + sum(host.waiting for host in pool.hosts)
        waiting = self._waiting.add(now, all_waiting / n)
        own_s = demand.prefill_s(pool.hosts, prompt_tokens)
        rate = self._requests.rate_per_s(now)
        # By price as if nothing were cached, and by M/M/1 from how many there are in line.
        prefill = min(rate * own_s / n, waiting / (1.0 + waiting))
        late = log(1.0 / (1.0 - self._params.attainment))
        bearable = min(max(1.0 - late * own_s / ttft_s, LEAST_LOAD), MOST_LOAD)
        in_line = bearable / (1.0 - bearable)
        backlog_s = max(waiting - in_line, 0.0) * (prefill * n / rate if rate > 0 else own_s)
        fixed, batch = self._decoding(pool, prompt_tokens)
        return n * ((prefill / bearable + batch) / (1.0 - fixed) + backlog_s / ttft_s)

    def _decoding(self, pool: PoolView, prompt_tokens: int) -> tuple[float, float]:
        """Shares of the promised pace that a step takes anyway, and that decoding adds."""
        tpot_s = demand.tpot_s(pool.hosts, prompt_tokens)
        self._least_tpot_s = min(self._least_tpot_s, *tpot_s)
        promised_s = (self._tpot_s.value or 0.0) * self._params.spare
        if promised_s <= self._least_tpot_s:
            return 0.0, 0.0  # Nothing is promised, or more than any number of instances can keep.
        above_s = min(fmean(tpot_s) - self._least_tpot_s, MOST_OVERLOAD * promised_s)
        return self._least_tpot_s / promised_s, above_s / promised_s
