"""Which cached block is evicted next, and whose."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fairlead.memory.cached import KEPT_S, Cached


def cache(*, now: float = 0.0, **counts: int) -> Cached:
    """Blocks of owners `a`, `b`, ...: those of `a` are 0, 1, ..., those of `b` 1000, 1001, ..."""
    cached = Cached()
    for owner, n in counts.items():
        let_go(cached, owner, n, now)
    return cached


def let_go(cached: Cached, owner: str, n: int, now: float) -> None:
    queue = cached.let_go_by(owner.encode(), now)
    first = 1000 * (ord(owner) - ord("a")) + len(queue)
    queue.update(dict.fromkeys(range(first, first + n), now))


def sizes(cached: Cached) -> dict[str, int]:
    owners = [chr(ord("a") + block // 1000) for block in cached.blocks()]
    return {owner: owners.count(owner) for owner in sorted(set(owners))}


def test_a_single_owner_loses_what_it_has_not_used_for_longest() -> None:
    cached = cache(a=5)
    let_go(cached, "a", 2, 9 * KEPT_S)
    assert cached.evict(6) == [0, 1, 2, 3, 4, 5]


def test_whoever_has_most_loses_first() -> None:
    cached = cache(a=3, b=10, c=6)
    cached.evict(5)
    assert sizes(cached) == {"a": 3, "b": 5, "c": 6}
    cached.evict(5)
    assert sizes(cached) == {"a": 3, "b": 3, "c": 3}


def test_what_was_not_used_for_long_goes_first_whoever_has_it() -> None:
    """Those who have gone hold no memory for ever, and neither do those who rarely come."""
    cached = cache(a=3, b=2)
    let_go(cached, "b", 2, 1.0)
    let_go(cached, "c", 50, 2.0 + KEPT_S)
    assert sorted(cached.evict(5)) == [0, 1, 2, 1000, 1001]
    cached.evict(2)
    assert sizes(cached) == {"c": 50}
    assert cached.evict(3) == [2000, 2001, 2002]


def test_what_is_used_again_stays() -> None:
    cached = cache(a=3)
    let_go(cached, "b", 9, KEPT_S + 1.0)
    queue = cached.of(b"a")
    del queue[0]
    let_go(cached, "b", 1, KEPT_S + 2.0)
    cached.let_go_by(b"a", KEPT_S + 2.0)[0] = KEPT_S + 2.0
    assert cached.evict(4) == [1, 2, 1000, 1001]


@given(
    mine=st.integers(1, 30),
    others=st.lists(st.integers(0, 60), min_size=1, max_size=5),
    data=st.data(),
)
def test_nobody_loses_below_an_equal_share(
    mine: int, others: list[int], data: st.DataObject
) -> None:
    """Of what is left there is a level: who has less lost nothing, and nobody has more."""
    names = "bcdef"[: len(others)]
    cached = cache(a=mine, **dict(zip(names, others, strict=True)))
    before = sizes(cached)
    cached.evict(data.draw(st.integers(0, sum(before.values()))))
    after = sizes(cached)
    level = max(after.values(), default=0)
    for owner, n in before.items():
        assert n <= level or after.get(owner, 0) >= level - 1
        if n < level:
            assert after[owner] == n
