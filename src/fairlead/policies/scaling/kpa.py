"""A slow window for calm times, a fast one for bursts, during which nothing is given back.

Source: the autoscaler of Knative (KPA), with the windows and limits of vllm-project/aibrix.
Rule:   want = ceil(mean requests in flight over a window / target), unless within `tolerance` of
        the present. Where the want of the panic window is at least `panic_threshold` times the
        instances that are up, a panic begins; until that has not been so for a stable window, the
        answer is the highest want seen in the panic. Else it is the want of the stable window. At
        most `max_factor` times the instances that are up, at least one `max_factor`-th.

Left out, since they mislead: comparing the two windows' values rather than want and what is up
(at low load noise is a panic), and metrics that saturate, such as the share of memory in use.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import ceil, floor
from random import Random

from fairlead.model import RequestView
from fairlead.policies.registry import scaling
from fairlead.policies.scaling.highest import Highest
from fairlead.policies.scaling.load import in_flight, size
from fairlead.policies.scaling.parts import PoolView


@dataclass(frozen=True, slots=True)
class Params:
    period_s: float = 2.0
    target: float = 32.0
    """Requests, running or waiting, for each instance; ours."""
    stable_window_s: float = 180.0
    panic_window_s: float = 60.0
    panic_threshold: float = 2.0
    """Wanted over up."""
    tolerance: float = 0.1
    """How far requests may be from the target, as a fraction of it, before anything changes."""
    max_factor: float = 2.0
    down_delay_s: float = 300.0
    """Down only to the highest want of so long."""

    def __post_init__(self) -> None:
        if min(self.period_s, self.target) <= 0:
            raise ValueError("period_s and target must be positive")
        if not 0 < self.panic_window_s <= self.stable_window_s:
            raise ValueError("panic_window_s must be above 0 and at most stable_window_s")
        if self.stable_window_s < self.period_s:
            raise ValueError("stable_window_s must be at least period_s")
        if self.panic_threshold <= 1 or self.max_factor <= 1:
            raise ValueError("panic_threshold and max_factor must be above 1")
        if self.tolerance < 0 or self.down_delay_s < 0:
            raise ValueError("tolerance and down_delay_s must be at least 0")


@scaling("kpa", Params)
class Kpa:
    def __init__(self, params: Params, rng: Random) -> None:
        self.period_s = params.period_s
        self._params = params
        self._seen: deque[tuple[float, int]] = deque()
        """Times and requests in flight, over a stable window."""
        self._panic_s: float | None = None
        """When there was last reason for panic; None in calm times."""
        self._panic_want = 0
        self._wants = Highest(params.down_delay_s)

    def arrived(self, request: RequestView, now: float) -> None:
        pass

    def desired(self, pool: PoolView, now: float) -> int:
        self._see(pool, now)
        n, n_up = size(pool), len(pool.hosts)
        stable = self._want(now, self._params.stable_window_s, n)
        panic = self._want(now, self._params.panic_window_s, n)
        self._judge(panic, n_up, now)
        want = stable if self._panic_s is None else max(stable, panic, self._panic_want)
        want = min(max(want, floor(n_up / self._params.max_factor)), self._most(n_up))
        if self._panic_s is not None:
            self._panic_want = want
        return self._wants.settle(now, want, n)

    def _see(self, pool: PoolView, now: float) -> None:
        self._seen.append((now, in_flight(pool)))
        while self._seen[0][0] <= now - self._params.stable_window_s:
            self._seen.popleft()

    def _want(self, now: float, window_s: float, n: int) -> int:
        recent = [requests for at_s, requests in self._seen if at_s > now - window_s]
        wanted = sum(recent) / len(recent) / self._params.target
        if n and abs(wanted / n - 1) <= self._params.tolerance:
            return n
        return ceil(wanted)

    def _judge(self, panic_want: int, n_up: int, now: float) -> None:
        """Begins a panic, or ends it."""
        if panic_want >= self._params.panic_threshold * max(n_up, 1):
            self._panic_s = now
        elif self._panic_s is not None and now - self._panic_s > self._params.stable_window_s:
            self._panic_s, self._panic_want = None, 0

    def _most(self, n_up: int) -> int:
        """A panic takes back nothing that was asked for in it, even if it is not up yet."""
        return max(ceil(self._params.max_factor * max(n_up, 1)), self._panic_want)
