"""The behaviour that the sources of the published routing policies claim."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.model import BlockHash, InstanceId, Objective, ProgramId, Request, RequestView
from fairlead.policies import registry
from fairlead.policies.routing.hot_prefixes import HotPrefixes
from fairlead.policies.routing.parts import soonest
from fairlead.policies.routing.ring import Ring
from fairlead.policies.routing.sent_prefixes import SentPrefixes
from tests.policies.test_conformance import View, view
from tests.policies.test_routing import build, first
from tests.strategies import ROUTING, request

NAMES = "abcdefgh"
PROMISED = Objective("x", ttft_s=1.0, tpot_s=0.05)


def fleet(n: int = 8, **fields: Any) -> list[View]:
    return [view(name, **fields) for name in NAMES[:n]]


def prompt(i: int, group: str, shared: int = 4, own: int = 4) -> Request:
    """The i-th request: some blocks that its group shares, then some of its own."""
    names = [f"{group} {j}" for j in range(shared)] + [f"{group} r{i} {j}" for j in range(own)]
    hashes = tuple(BlockHash(name.encode()) for name in names)
    return request(f"r{i}", 4 * len(names), block_hashes=hashes)


def unshared(i: int) -> Request:
    return request(f"r{i}", 3, block_hashes=())


def loaded(name: str, n: int) -> View:
    """With so many requests, and all that they do to an instance."""
    ttft_s, e2e_s = 0.1 + 0.001 * n, 1.0 + 0.01 * n
    return view(name, running=n, queued_tokens=n, context_tokens=10 * n, ttft_s=ttft_s, e2e_s=e2e_s)


def play(policy: Any, requests: list[Request], n: int = 8, stay: int = 10**9) -> list[str]:
    """Where each goes if every request stays for so many arrivals."""
    placed: list[str] = []
    for one in requests:
        here = Counter(placed[-stay:])
        views = [loaded(name, here[name]) for name in NAMES[:n]]
        placed.append(str(policy.rank(one, views, 0.0)[0].id))
    return placed


# ---------------------------------------------------------------- by prediction


def test_min_ttft_looks_at_the_first_token_only() -> None:
    views = [view("a", ttft_s=0.3, e2e_s=1.0), view("b", ttft_s=0.2, e2e_s=9.0)]
    assert first(build("min-ttft"), views) == "b"


def test_mooncake_takes_the_earliest_first_token_where_the_pace_is_kept() -> None:
    crowded = view("a", ttft_s=0.1, tpot_s=0.06)
    views = [crowded, view("b", ttft_s=0.4), view("c", ttft_s=0.3)]
    ranked = []
    while left := [one for one in views if one not in ranked]:
        ranked += build("mooncake").rank(request(objective=PROMISED), left, 0.0)
    assert [v.id for v in ranked] == ["c", "b", "a"]
    # Without a promise the pace is that of `tbt_s`, which 60 ms keep.
    assert first(build("mooncake"), views) == "a"
    assert first(build("mooncake", tbt_s=0.05), views) == "c"


class Counting(View):
    """A view that counts how often it was asked for a prediction."""

    n_asked = 0

    def predicted_ttft_s(self, request: RequestView) -> float:
        Counting.n_asked += 1
        return self.ttft_s


def test_only_who_could_be_sooner_than_the_best_found_is_predicted() -> None:
    cold = [Counting(InstanceId(f"c{i}"), ttft_s=0.5 + i, least_s=0.4) for i in range(50)]
    warm = Counting(InstanceId("warm"), ttft_s=0.3, least_s=0.1)
    Counting.n_asked = 0
    assert soonest(request(), [*cold, warm]) == [warm]
    assert Counting.n_asked == 1


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.1, 0.2, 0.3]), st.sampled_from([0.0, 0.1]), st.sampled_from([1, 2])
        ),
        max_size=8,
    ),
    st.sampled_from([0.5, 1.5, float("inf")]),
)
def test_it_is_the_one_that_is_best_when_all_are_predicted(
    drawn: list[tuple[float, float, int]], tpot_s: float
) -> None:
    views = [
        view(f"v{i}", ttft_s=least_s + more_s, least_s=least_s, tpot_s=float(pace))
        for i, (least_s, more_s, pace) in enumerate(drawn)
    ]
    best = sorted(views, key=lambda v: (v.tpot_s > tpot_s, v.ttft_s, v.id))[:1]
    assert soonest(request(), views, tpot_s) == best


# ---------------------------------------------------------------- by score


def test_dynamo_weighs_cached_tokens_against_tokens_in_use() -> None:
    cached, empty = view("a", cached=40, context_tokens=30), view("b")
    assert first(build("dynamo-kv"), [cached, empty], prompt=50) == "a"
    assert first(build("dynamo-kv", overlap_weight=0.5), [cached, empty], prompt=50) == "b"
    # A queued token counts twice: it is to be computed and it will be in use.
    queue = view("a", cached=40, queued_tokens=21)
    assert first(build("dynamo-kv"), [queue, empty], prompt=50) == "b"
    assert first(build("dynamo-kv"), [view("a", cached=40, queued_tokens=19), empty]) == "a"


def test_dynamo_with_a_temperature_spreads_and_still_prefers_the_cheaper() -> None:
    policy = build("dynamo-kv", temperature=0.5)
    views = [view("a"), view("b", context_tokens=100)]
    share = Counter(first(policy, views) for _ in range(1000))["a"] / 1000
    assert share == pytest.approx(1 / (1 + 2.718281828**-2), abs=0.04)


@pytest.mark.parametrize(
    ("free_blocks", "waiting", "chosen"),
    [(100, 0, "warm"), (100, 9, "warm"), (49, 9, "cold"), (51, 9, "warm"), (0, 0, "warm")],
)
def test_llm_d_adds_two_queues_two_memories_and_three_prefixes(
    free_blocks: int, waiting: int, chosen: str
) -> None:
    """With all of the prompt cached, the longest queue and half of the memory the scores are level:
    3 + 0 + 1 against 0 + 2 + 2."""
    warm = view("warm", cached=10, waiting=waiting, available_blocks=free_blocks)
    assert first(build("llm-d"), [warm, view("cold")], prompt=10) == chosen


def test_llm_d_draws_from_equals() -> None:
    policy = build("llm-d")
    assert {first(policy, fleet()) for _ in range(100)} == set(NAMES)


# ---------------------------------------------------------------- by what was sent


def test_sglang_sends_a_prefix_to_where_it_was_sent_before() -> None:
    requests = [prompt(i, f"g{i % 4}", shared=6, own=2) for i in range(40)]
    placed = play(build("sglang-cache-aware"), requests, stay=8)
    for group in range(4):
        assert len(set(placed[group::4])) == 1
    assert len(set(placed)) == 4, "new prefixes go where the tree is smallest"


def test_sglang_takes_half_a_match_for_none() -> None:
    placed = play(build("sglang-cache-aware"), [prompt(i, "g") for i in range(16)], stay=1)
    assert len(set(placed)) == 8
    placed = play(
        build("sglang-cache-aware", cache_threshold=0.49), [prompt(i, "g") for i in range(16)]
    )
    assert len(set(placed)) == 1


def test_sglang_forgets_prefixes_when_load_is_out_of_balance() -> None:
    policy = build("sglang-cache-aware")
    one = prompt(0, "g")
    assert policy.rank(one, [view("a"), view("b", running=9)], 0.0)[0].id == "a"
    assert policy.rank(one, [view("a", running=32), view("b")], 0.0)[0].id == "a"
    assert policy.rank(one, [view("a", running=33), view("b")], 0.0)[0].id == "b"
    # And then b has it too.
    assert policy.rank(one, [view("a", running=9), view("b")], 0.0)[0].id == "b"
    # 33 apart, and less than a tenth.
    assert policy.rank(one, [view("a", running=433), view("b", running=400)], 0.0)[0].id == "b"
    assert policy.rank(one, [view("b", running=433), view("a", running=400)], 0.0)[0].id == "a"


def test_sglang_without_prefixes_balances_the_text_it_sent() -> None:
    placed = play(build("sglang-cache-aware"), [unshared(i) for i in range(80)])
    assert set(Counter(placed).values()) == {10}


def test_aibrix_takes_the_longest_prefix_that_is_not_too_busy() -> None:
    policy = build("aibrix-prefix")
    short, long = prompt(0, "g", shared=4, own=0), prompt(0, "g")
    assert policy.rank(short, [view("a")], 0.0)[0].id == "a"
    assert policy.rank(long, [view("b")], 0.0)[0].id == "b"
    rest = [view(name, running=1) for name in "cdefgh"]
    assert first_of(policy, long, [view("a", running=1), view("b", running=1), *rest]) == "b"
    # Of (1, 4, 1, …) the mean is 1.4 and the deviation 1.0.
    assert first_of(policy, long, [view("a", running=1), view("b", running=4), *rest]) == "a"
    # Both are busy, and whoever takes it has it from now on.
    busy = [view("a", running=4), view("b", running=4), *rest]
    assert (taken := first_of(policy, long, busy)) in "cdefgh"
    assert first_of(policy, long, busy) == taken


def test_aibrix_forgets_prefixes_when_load_is_out_of_balance() -> None:
    policy = build("aibrix-prefix", deviations=99.0)
    one = prompt(0, "g")
    assert first_of(policy, one, [view("a"), view("b", running=1)]) == "a"
    assert first_of(policy, one, [view("a", running=8), view("b")]) == "a"
    assert first_of(policy, one, [view("a", running=9), view("b")]) == "b"


def test_aibrix_without_prefixes_takes_the_fewest_requests() -> None:
    placed = play(build("aibrix-prefix"), [unshared(i) for i in range(80)])
    assert set(Counter(placed).values()) == {10}


def first_of(policy: Any, one: Request, views: list[View]) -> str:
    return str(policy.rank(one, views, 0.0)[0].id)


# ---------------------------------------------------------------- by drawing


def test_power_of_two_is_never_the_most_loaded_of_three() -> None:
    policy = build("power-of-two")
    views = [view("a", running=1), view("b", waiting=2), view("c", running=1, waiting=2)]
    chosen = Counter(first(policy, views) for _ in range(300))
    assert "c" not in chosen
    assert 0.55 < chosen["a"] / 300 < 0.78  # Two thirds of the pairs hold the least loaded.


def spread(name: str, **params: Any) -> int:
    """Between the most and the fewest of 800 requests on eight instances."""
    counts = Counter(play(build(name, **params), [unshared(i) for i in range(800)])).values()
    return max(counts) - min(counts)


def test_two_choices_of_old_loads_are_nearly_as_even_as_of_new_ones_and_one_choice_is_not() -> None:
    """Dodoor: a table that is half of the fleet's placements old is good enough."""
    assert spread("power-of-two") <= 4
    assert spread("dodoor", two=1.0) <= 10
    assert spread("dodoor", two=0.0) > 20


def test_dodoor_looks_at_loads_only_every_so_many_placements() -> None:
    policy = build("dodoor", two=1.0, refresh=5.0)
    before, after = [view("a", running=9), view("b")], [view("a"), view("b", running=9)]
    chosen = [first(policy, views) for views in [before, *[after] * 10]]
    assert chosen == ["b"] * 10 + ["a"]


def test_dodoor_prefers_the_larger_instance_at_equal_load() -> None:
    small = view("a", running=4, available_blocks=50)
    large = view("b", running=4, available_blocks=150, total_blocks=200)
    assert {first(build("dodoor", two=1.0), [small, large]) for _ in range(9)} == {"b"}
    assert first(build("dodoor"), [view("a", available_blocks=100, total_blocks=100)]) == "a"


# ---------------------------------------------------------------- by hashing


def test_a_ring_moves_only_the_keys_of_whoever_goes() -> None:
    ring, views = Ring(64), fleet()
    keys = [str(i).encode() for i in range(2000)]
    before = [next(ring.clockwise(key, views)).id for key in keys]
    without = [v for v in views if v.id != "c"]
    after = [next(ring.clockwise(key, without)).id for key in keys]
    assert all(now == then for now, then in zip(after, before, strict=True) if then != "c")
    assert len({now for now, then in zip(after, before, strict=True) if then == "c"}) == 7
    assert [next(ring.clockwise(key, views)).id for key in keys] == before
    assert max(Counter(before).values()) < 2 * 2000 / 8


def test_a_ring_gives_a_newcomer_about_its_share() -> None:
    ring = Ring(64)
    keys = [str(i).encode() for i in range(2000)]
    before = [next(ring.clockwise(key, fleet(7))).id for key in keys]
    after = [next(ring.clockwise(key, fleet(8))).id for key in keys]
    moved = [now for now, then in zip(after, before, strict=True) if now != then]
    assert set(moved) == {"h"}
    assert 0.5 / 8 < len(moved) / 2000 < 2 / 8


def test_a_ring_names_each_candidate_once_and_forgets_those_that_never_come_back() -> None:
    ring = Ring(8)
    for generation in range(100):
        views = [view(f"{generation}-{name}") for name in NAMES]
        assert Counter(v.id for v in ring.clockwise(b"key", views)) == {v.id: 1 for v in views}
    assert len(ring._points) <= 8 * 8 * 10


def test_consistent_hashing_keeps_a_prefix_together_until_its_instance_has_its_share() -> None:
    """Mirrokni et al.: nobody ever has more than 1.25 times the mean, rounded up."""
    policy = build("consistent-hash", prefix_blocks=4)
    calm = play(policy, [prompt(i, f"g{i % 40}") for i in range(400)], stay=1)
    assert all(len(set(calm[group::40])) <= 2 for group in range(40))
    assert sum(len(set(calm[group::40])) == 1 for group in range(40)) > 30
    hot = [prompt(i, "hot") for i in range(400)]
    counts = Counter(play(policy, hot))
    assert max(counts.values()) <= 63  # 1.25 · 400 / 8, rounded up
    assert len(counts) >= 7


def test_consistent_hashing_keeps_a_program_together_whatever_its_prompts() -> None:
    policy = build("consistent-hash", factor=99.0)
    requests = [prompt(i, f"g{i}") for i in range(20)]
    together = [request(f"p{i}", i + 1, program=ProgramId("p")) for i in range(20)]
    assert len(set(play(policy, requests))) > 3
    assert len(set(play(policy, together))) == 1


def test_dualmap_binds_a_prefix_to_two_instances() -> None:
    policy = build("dualmap", level_blocks=1)
    queues = [{name: Random(i).randrange(100) for name in NAMES} for i in range(60)]
    for group in range(0, 40):
        chosen = {
            first_of(policy, prompt(i, f"g{group}"), [view(n, queued_tokens=q[n]) for n in NAMES])
            for i, q in enumerate(queues[:3])
        }
        assert len(chosen) <= 2
    pairs = [build("dualmap")._pair(str(i).encode(), fleet()) for i in range(100)]
    assert all(one.id != two.id for one, two in pairs)
    assert len({(one.id, two.id) for one, two in pairs}) > 30


def test_dualmap_stays_with_the_cache_until_the_first_token_would_be_late() -> None:
    one = request("r", 10, objective=PROMISED, arrival_s=5.0)
    for ttft_s, chosen in ((0.8, "a"), (1.2, "b")):
        views = [view("a", cached=8, queued_tokens=99, ttft_s=ttft_s), view("b", cached=4)]
        assert build("dualmap").rank(one, views, 5.0)[0].id == chosen
    waited = [view("a", cached=8, queued_tokens=99, ttft_s=0.8), view("b", cached=4)]
    assert build("dualmap").rank(one, waited, 5.3)[0].id == "b", "what it has waited counts"
    # A late holder that is the less loaded of the two keeps it.
    views = [view("a", cached=8, ttft_s=2.0), view("b", queued_tokens=99, ttft_s=3.0)]
    assert build("dualmap").rank(one, views, 5.0)[0].id == "a"


def test_dualmap_takes_the_shorter_queue_where_caches_are_equal() -> None:
    views = [view("a", cached=8, queued_tokens=9, ttft_s=0.1), view("b", cached=8, ttft_s=0.9)]
    assert first(build("dualmap"), views) == "b"


def test_dualmap_spreads_a_hot_prefix_over_more_than_two_and_leaves_others_alone() -> None:
    policy = build("dualmap", level_blocks=4, min_levels=1)
    hot = [prompt(i, "hot") for i in range(300)]
    others = [prompt(i, f"g{i % 100}") for i in range(300, 600)]
    placed = play(policy, [one for pair in zip(hot, others, strict=True) for one in pair], stay=1)
    assert len(set(placed[0::2])) == 8
    assert all(len(set(placed[1::2][group::100])) <= 2 for group in range(100))


def test_a_prefix_is_split_above_two_shares_and_joined_below_one() -> None:
    hot = HotPrefixes(window=100)
    start, longer = BlockHash(b"start"), BlockHash(b"longer")

    def key(share: int) -> BlockHash:
        """After a window in which so many percent of the requests began with it."""
        for i in range(100):
            if i < 100 - share:
                hot.key((BlockHash(f"other {i}".encode()),), 10)
            else:
                last = hot.key((start, longer), 10)
        return last

    assert [key(share) for share in (18, 22, 12, 8, 18)] == [start, longer, longer, start, start]


# ---------------------------------------------------------------- what all owe


@pytest.mark.parametrize("name", ROUTING)
def test_requests_without_prefixes_are_spread_by_everyone(name: str) -> None:
    counts = Counter(play(build(name), [unshared(i) for i in range(160)], stay=40))
    assert len(counts) == 8
    assert max(counts.values()) <= 50


def test_what_was_sent_is_bounded_and_forgotten_from_the_end_of_the_oldest() -> None:
    sent = SentPrefixes(most_blocks=10)
    old, new = prompt(0, "old"), prompt(1, "new")
    sent.add(old, InstanceId("a"))
    sent.add(new, InstanceId("b"))
    assert sent.matches(old) == {"a": 2}
    assert sent.matches(new) == {"b": 8}
    assert sent.tokens == {"a": 8, "b": 32}
    for i in range(50):
        sent.add(prompt(i, f"g{i}"), InstanceId(f"i{i}"))
    assert len(sent._holders) == 10
    assert set(sent.tokens) == {"i48", "i49"}


def test_what_was_sent_is_what_a_walk_over_all_prompts_finds() -> None:
    sent, draw = SentPrefixes(10**6), Random(5)
    told: list[tuple[Request, str]] = []
    for i in range(60):
        one, where = prompt(i, f"g{draw.randrange(6)}", draw.randrange(5), 2), draw.choice("abc")
        slow = {
            name: max((_common(one, other) for other, at in told if at == name), default=0)
            for name in "abc"
        }
        assert sent.matches(one) == {name: n for name, n in slow.items() if n}
        sent.add(one, InstanceId(where))
        told.append((one, where))


def _common(one: Request, other: Request) -> int:
    n = 0
    for mine, its in zip(one.block_hashes, other.block_hashes, strict=False):
        if mine != its:
            break
        n += 1
    return n


# ---------------------------------------------------------------- Mooncake's admission


def test_mooncake_rejects_early_on_the_larger_of_both_loads() -> None:
    policy = registry.build("admission", "mooncake-early", {}, Random(0))
    one = request(objective=PROMISED)

    def wait_s(*views: View) -> float | None:
        answer: float | None = policy.retry_after_s(one, views, 0.0)
        return answer

    assert wait_s(view("a"), view("b", ttft_s=9.0)) is None
    assert wait_s(view("a", ttft_s=4.0), view("b", ttft_s=9.0)) == 3.0
    assert wait_s(view("a", tpot_s=0.06)) == 1.0
    assert wait_s(view("a", tpot_s=0.06), view("b", ttft_s=9.0)) is None, "each side for itself"


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("consistent-hash", {"factor": 1.0}, "factor must be above 1, got 1.0"),
        ("dualmap", {"ttft_s": 0.0}, "ttft_s must be positive"),
        ("dodoor", {"two": 2.0}, "two and pending_weight must be from 0 to 1"),
        ("sglang-cache-aware", {"cache_threshold": 30.0}, "must be from 0 to 1, got 30"),
        ("aibrix-prefix", {"index_blocks": 0}, "index_blocks must be at least 1"),
        ("llm-d", {"prefix": -1.0}, "must be at least 0"),
        ("dynamo-kv", {"temperature": -1.0}, "must be at least 0"),
        ("mooncake", {"tbt_s": 0.0}, "tbt_s must be positive"),
    ],
)
def test_bad_parameters_say_what_they_should_be(
    name: str, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(Exception, match=message):
        build(name, **params)
