"""The behaviour that each scaling policy claims."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from fairlead.model import ConfigError, Objective
from fairlead.policies.scaling.highest import Highest
from fairlead.policies.scaling.trend import Smoothed, Trend
from tests.policies.fakes import Host, Pool, crowd, host, placed
from tests.policies.fakes import build as build_any
from tests.strategies import request


def build(name: str, **params: Any) -> Any:
    return build_any("scaling", name, **params)


def pool(n: int, each: int, **fields: Any) -> Pool:
    """So many instances with so many requests each, that need little memory."""
    return Pool(tuple(crowd(f"i{i}", each, 16, max_sequences=256) for i in range(n)), **fields)


def steady(policy: Any, view: Pool, start_s: float, for_s: float) -> int:
    """The last answer, after the pool has looked the same for so long."""
    steps = int(for_s / policy.period_s)
    return [int(policy.desired(view, start_s + i * policy.period_s)) for i in range(steps + 1)][-1]


# ---------------------------------------------------------------- queue-based


def test_as_many_instances_as_the_target_needs() -> None:
    policy = build("queue-based", target=8)
    assert policy.desired(pool(2, 12), 0.0) == 3
    waiting = Pool((crowd("a", 4, 16, queue=[placed(f"q{i}", 16) for i in range(20)]),))
    assert build("queue-based", target=8).desired(waiting, 0.0) == 3
    assert build("queue-based", target=8).desired(pool(2, 8, n_queued=9), 0.0) == 4


def test_near_the_target_nothing_changes() -> None:
    policy = build("queue-based", target=10)
    assert [policy.desired(pool(3, each), 0.0) for each in (10, 11, 9)] == [3, 3, 3]
    assert policy.desired(pool(3, 12), 0.0) == 4


def test_it_grows_by_a_factor_or_by_a_few_at_a_time() -> None:
    policy = build("queue-based", target=1)
    assert policy.desired(pool(1, 200), 0.0) == 5
    assert policy.desired(pool(8, 200), 0.0) == 16


def test_it_shrinks_only_to_the_most_of_the_window() -> None:
    policy = build("queue-based", target=8, down_window_s=60.0)
    assert policy.desired(pool(4, 8), 0.0) == 4
    answers = [policy.desired(pool(4, 2), 15.0 * i) for i in range(1, 6)]
    assert answers == [4, 4, 4, 4, 1]


def test_instances_that_start_count() -> None:
    assert build("queue-based", target=8).desired(pool(2, 12, n_starting=1), 0.0) == 3


def test_a_burst_that_is_over_does_not_bring_back_what_has_gone() -> None:
    highest = Highest(60.0)
    assert highest.settle(0.0, 9, 2) == 9
    assert highest.settle(10.0, 1, 5) == 5  # 9 were wanted lately, but there are 5.
    assert highest.settle(100.0, 1, 5) == 1


@pytest.mark.parametrize("name", ["queue-based", "kpa", "llumnix-scaling", "slo-forecast"])
def test_a_pool_without_work_goes_to_nothing_and_comes_back(name: str) -> None:
    policy = build(name)
    policy.arrived(request(), 0.0)
    busy = Pool((host("a", *crowd("a", 1, 16).decoding),))
    assert policy.desired(busy, 0.0) == 1
    empty = Pool((host("a"),))
    assert policy.desired(empty, 5.0) == 1
    assert steady(policy, empty, 5.0, 900.0) == 0
    assert steady(policy, Pool(), 910.0, 60.0) == 0
    policy.arrived(request("r2"), 1000.0)
    assert policy.desired(Pool(n_queued=1), 1000.0) == 1
    assert policy.desired(Pool(n_queued=1, n_starting=1), 1002.0) == 1


# ---------------------------------------------------------------- llumnix-scaling


def at(freeness: int, name: str) -> Host:
    """An instance with two sequences and that freeness."""
    return crowd(name, 2, 16 * (100 - 2 * freeness) // 2)


def test_between_the_two_bounds_it_stays() -> None:
    for average in (10, 35, 48):
        hosts = (at(average, "a"), at(average, "b"))
        assert build("llumnix-scaling").desired(Pool(hosts), 0.0) == 2


def test_below_the_lower_bound_it_grows_until_the_average_is_right() -> None:
    """Empty instances have a freeness of 100: (4 + 100) / 2 is enough for one, 10 at 4 need one
    too, 20 at 4 two."""
    for n, desired in ((1, 2), (10, 11), (20, 22)):
        hosts = tuple(at(4, f"i{i}") for i in range(n))
        assert build("llumnix-scaling").desired(Pool(hosts), 0.0) == desired


def test_what_starts_is_part_of_the_average() -> None:
    hosts = tuple(at(4, f"i{i}") for i in range(10))
    assert build("llumnix-scaling").desired(Pool(hosts, n_starting=1), 0.0) == 11
    assert build("llumnix-scaling").desired(Pool(hosts, n_queued=5, n_starting=1), 0.0) == 11


def test_one_goes_if_the_others_are_free_enough_without_it() -> None:
    free = crowd("b", 1, 16 * 30)  # 70
    assert build("llumnix-scaling").desired(Pool((host("a"), free)), 0.0) == 1
    busy = crowd("b", 1, 16 * 45)  # 55, though the average is 77
    assert build("llumnix-scaling").desired(Pool((host("a"), busy)), 0.0) == 2
    assert build("llumnix-scaling").desired(Pool((host("a"), free), n_queued=1), 0.0) == 3


def test_an_instance_too_small_to_be_free_ends_in_no_endless_growth() -> None:
    tiny = Pool((crowd("a", 1, 16, total_blocks=5),))
    assert build("llumnix-scaling").desired(tiny, 0.0) == 1
    barely = Pool((crowd("a", 1, 640, total_blocks=11),), max_instances=8)
    assert build("llumnix-scaling").desired(barely, 0.0) <= 8


# ---------------------------------------------------------------- kpa


def test_in_calm_times_the_stable_window_decides() -> None:
    policy = build("kpa", target=10)
    assert steady(policy, pool(4, 10), 0.0, 200.0) == 4
    # Half as many again: the mean of the stable window takes its time.
    answers = [policy.desired(pool(4, 15), 200.0 + 2 * i) for i in range(100)]
    assert answers[0] == 4
    assert answers[-1] == 6
    assert answers == sorted(answers)


def test_a_burst_begins_a_panic_in_which_nothing_is_given_back() -> None:
    policy = build("kpa", target=10, down_delay_s=0.0)
    assert steady(policy, pool(2, 10), 0.0, 200.0) == 2
    burst = [policy.desired(pool(2, 60), 202.0 + 2 * i) for i in range(20)]
    assert max(burst) == 4  # Twice of what is up.
    after = [policy.desired(pool(4, 1), 242.0 + 2 * i) for i in range(80)]
    assert min(after) >= 4
    assert after == sorted(after)
    calm = [policy.desired(pool(4, 1), 402.0 + 2 * i) for i in range(120)]
    assert calm[-1] < 4


def test_the_panic_window_is_faster_than_the_stable_one() -> None:
    def seconds_to_four(**params: Any) -> float:
        policy = build("kpa", target=10, **params)
        steady(policy, pool(2, 10), 0.0, 200.0)
        for i in range(200):
            if policy.desired(pool(2, 30), 202.0 + 2 * i) >= 4:
                return 2.0 * i
        return float("inf")

    assert seconds_to_four() < seconds_to_four(panic_threshold=50.0) / 1.5


def test_noise_at_low_load_is_no_panic() -> None:
    """A few requests where there was one: the windows differ by far more than the threshold."""
    policy = build("kpa", target=10)
    steady(policy, pool(2, 0, n_queued=1), 0.0, 200.0)
    assert steady(policy, pool(2, 0, n_queued=8), 202.0, 60.0) <= 2
    assert policy._panic_s is None


def test_it_shrinks_to_a_half_at_most() -> None:
    policy = build("kpa", target=10, down_delay_s=0.0)
    assert steady(policy, pool(8, 10), 0.0, 200.0) == 8
    assert min(policy.desired(pool(8, 0), 202.0 + 2 * i) for i in range(200)) == 4


def test_the_samples_are_bounded_by_the_window() -> None:
    policy = build("kpa")
    steady(policy, pool(1, 1), 0.0, 5000.0)
    assert len(policy._seen) <= 90


# ---------------------------------------------------------------- slo-forecast


def test_the_trend_goes_on_and_noise_is_none() -> None:
    rising, flat = Trend(300.0, 10.0), Trend(300.0, 10.0)
    draw = Random(1)
    for i in range(3000):
        now = i / 10
        rising.add(now, 0.1 * (1 + now / 100))
        flat.add(now, draw.random() * 0.2)
    # 4 a second after 300 s, and another 0.01 with every second.
    assert rising.forecast_per_s(300.0, 60.0) == pytest.approx(4.6, rel=0.01)
    assert rising.rate_per_s(300.0) == pytest.approx(3.7, rel=0.01)
    assert flat.forecast_per_s(300.0, 600.0) < 1.2


def test_a_falling_rate_is_not_taken_further_down() -> None:
    falling = Trend(300.0, 10.0)
    for i in range(300):
        falling.add(float(i), 300.0 - i)
    assert falling.forecast_per_s(300.0, 60.0) == falling.rate_per_s(300.0)


def test_a_trend_of_long_ago_is_forgotten() -> None:
    trend = Trend(300.0, 10.0)
    for i in range(300):
        trend.add(float(i), float(i))
    assert trend.forecast_per_s(1e6, 60.0) == 0.0
    assert len(trend._amounts) <= 31


def test_a_running_mean_forgets_with_time_and_not_with_samples() -> None:
    often, seldom = Smoothed(10.0), Smoothed(10.0)
    often.add(0.0, 0.0)
    seldom.add(0.0, 0.0)
    for i in range(1, 101):
        often.add(i / 10, 1.0)
    assert often.value == pytest.approx(seldom.add(10.0, 1.0), rel=1e-6)


class Service:
    """A fleet in a few lines: each request stays `stay_s` and holds its prompt; an instance has
    room for `room` of them. Asks the policy, and starts what it wants after `start_up_s`."""

    def __init__(self, policy: Any, *, stay_s: float = 20.0, start_up_s: float = 60.0) -> None:
        self.policy, self.stay_s, self.start_up_s = policy, stay_s, start_up_s
        self.n = 1
        self.starts: list[float] = []
        self.ends: list[float] = []
        self.short_s = 0.0
        """Seconds with more inside than there is room for."""
        self.instance_s = 0.0
        self.owed = 0.0

    def run(self, rate: Any, until_s: int, since_s: int = 0) -> None:
        for now in range(since_s, until_s):
            self.owed += rate(now)
            while self.owed >= 1:
                self.owed -= 1
                self.ends.append(now + self.stay_s)
                self.policy.arrived(
                    request(f"r{now}", [], prompt_tokens=160, objective=Objective("x", ttft_s=5.0)),
                    float(now),
                )
            self.ends = [end for end in self.ends if end > now]
            self.n += sum(up <= now for up in self.starts)
            self.starts = [up for up in self.starts if up > now]
            self.short_s += len(self.ends) > 10 * self.n
            self.instance_s += self.n
            if now % 5 == 0:
                self._scale(float(now))

    def _scale(self, now: float) -> None:
        each, rest = divmod(len(self.ends), self.n)
        hosts = tuple(crowd(f"i{i}", each + (i < rest), 160) for i in range(self.n))
        view = Pool(hosts, n_starting=len(self.starts), start_up_s=self.start_up_s)
        change = self.policy.desired(view, now) - self.n - len(self.starts)
        self.starts += [now + self.start_up_s] * max(change, 0)
        self.n = max(self.n + min(change, 0), 1)


def ramp(now: int) -> float:
    """From one request in two seconds to eight a second within a quarter of an hour."""
    return 0.5 + 7.5 * min(max(now - 600, 0) / 900, 1.0)


class Unaware:
    """The same policy, told that instances start at once."""

    def __init__(self) -> None:
        self.policy = build("slo-forecast", memory_fraction=1.0)
        self.arrived = self.policy.arrived

    def desired(self, view: Pool, now: float) -> int:
        return int(self.policy.desired(replace(view, start_up_s=0.0), now))


def test_instances_are_up_before_a_ramp_needs_them() -> None:
    """Nobody can know that a ramp begins; then it is followed without a second too short."""
    ahead = Service(build("slo-forecast", memory_fraction=1.0))
    unaware, reactive = Service(Unaware()), Service(build("queue-based", target=10))
    for service in (ahead, unaware, reactive):
        service.run(ramp, 1800)
    assert ahead.short_s < 120
    assert unaware.short_s > 1.5 * ahead.short_s
    assert reactive.short_s > 5 * ahead.short_s
    assert ahead.instance_s < 1.25 * unaware.instance_s
    again = Service(build("slo-forecast", memory_fraction=1.0))
    again.run(ramp, 900)
    before_s = again.short_s
    again.run(ramp, 1800, since_s=900)
    assert again.short_s == before_s


def test_a_steady_load_gets_what_it_needs_and_no_more() -> None:
    service = Service(build("slo-forecast"))
    service.run(lambda now: 2.0, 1800)
    # 40 inside, ten to an instance, 85 % of its memory used: 4.7.
    assert service.n + len(service.starts) == 5


def test_after_a_peak_it_waits_before_it_shrinks() -> None:
    service = Service(build("slo-forecast", down_delay_s=200.0))
    service.run(lambda now: 4.0, 900)
    most = service.n
    service.run(lambda now: 1.0, 1050, since_s=900)
    assert service.n == most
    service.run(lambda now: 1.0, 1800, since_s=1050)
    assert service.n == 3


def test_after_an_idle_hour_it_knows_what_a_request_costs() -> None:
    policy = build("slo-forecast")
    Service(policy).run(lambda now: 4.0, 900)
    for i in range(240):
        policy.arrived(request("x", [], prompt_tokens=160), 5000.0 + i / 4)
    assert policy.desired(Pool(n_queued=240), 5060.0) >= 8


def slow(n: int, per_sequence_s: float) -> Pool:
    hosts = [crowd(f"i{i}", 8, 16, tpot_s_per_sequence=per_sequence_s) for i in range(n)]
    return Pool(tuple(hosts))


def test_a_promised_pace_limits_the_batch() -> None:
    """10 ms a step, and 5 ms more for each sequence: 50 ms allow for 6 with a fifth to spare."""
    promised = Objective("x", tpot_s=0.05)
    for objective, grows in ((promised, True), (Objective("x"), False)):
        policy = build("slo-forecast")
        policy.arrived(request(objective=objective), 0.0)
        policy.desired(Pool((host("i0"), host("i1"))), 0.0)
        assert (steady(policy, slow(2, 0.005), 5.0, 60.0) > 2) is grows


def test_a_pace_that_no_instance_keeps_buys_none() -> None:
    policy = build("slo-forecast")
    policy.arrived(request(objective=Objective("x", tpot_s=0.005)), 0.0)
    assert steady(policy, slow(2, 0.005), 0.0, 60.0) == 2


def test_prompts_that_come_faster_than_they_are_computed_need_more_instances() -> None:
    """A second of prefill a prompt, three a second, six to line up: 60 % of five instances."""
    policy = build("slo-forecast")
    for i in range(300):
        policy.arrived(request("x", [], prompt_tokens=1000), i / 3)
    crowded = [
        host(f"i{i}", queue=[placed(f"q{i}{j}", 1000) for j in range(6)], total_blocks=10_000)
        for i in range(3)
    ]
    assert policy.desired(Pool(tuple(crowded)), 100.0) >= 6
    idle = tuple(host(f"i{i}", total_blocks=10_000) for i in range(3))
    cached = build("slo-forecast")
    for i in range(300):
        cached.arrived(request("x", [], prompt_tokens=1000), i / 3)
    assert cached.desired(Pool(idle), 100.0) == 3  # Nobody waits, so they must be cheap.


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", ["queue-based", "kpa", "llumnix-scaling", "slo-forecast"])
def test_a_constant_load_makes_no_pool_swing(name: str) -> None:
    service = Service(build(name, target=8) if name in ("queue-based", "kpa") else build(name))
    service.run(lambda now: 2.0, 1500)
    sizes = set()
    for since_s in range(1500, 2500, 50):
        service.run(lambda now: 2.0, since_s + 50, since_s=since_s)
        sizes.add(service.n + len(service.starts))
    assert len(sizes) == 1
    assert 4 <= sizes.pop() <= 8


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("queue-based", {"target": 0}, "period_s and target must be positive"),
        ("kpa", {"panic_window_s": 500.0}, "at most stable_window_s"),
        ("llumnix-scaling", {"down_freeness": 5.0}, "below down_freeness"),
        ("slo-forecast", {"attainment": 1.0}, "attainment must be between 0 and 1"),
    ],
)
def test_bad_parameters_say_what_they_should_be(
    name: str, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build(name, **params)
