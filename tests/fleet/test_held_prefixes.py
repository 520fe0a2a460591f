"""What the fleet believes about an instance's cache, whatever becomes of what it is told."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.fleet.held_prefixes import ASK_AGAIN_S, EXPECTED, HeldPrefixes
from fairlead.fleet.prefix_index import PrefixIndex
from fairlead.memory import BlockPool
from fairlead.model import BlockHash, InstanceId, Report, RequestId
from tests.strategies import request

R1, R2 = RequestId("r1"), RequestId("r2")
N = [BlockHash(bytes([i])) for i in range(40)]


def held(n_blocks: int = 20) -> HeldPrefixes:
    return HeldPrefixes(PrefixIndex(), n_blocks, block_tokens=1)


def leading(h: HeldPrefixes, names: Sequence[BlockHash]) -> int:
    """How many of these blocks are there, as a prompt that goes on behind them finds out."""
    return h.cached_tokens(request(prompt=len(names) + 1, block_hashes=names))


def report(
    cache_events: int | None,
    stored: Sequence[BlockHash] = (),
    evicted: Sequence[BlockHash] = (),
    *,
    whole: bool = False,
) -> Report:
    return Report(
        InstanceId("a"),
        0.0,
        *(0, 0, 0, 0, 0, 0),
        requests=(),
        stored=tuple(stored),
        evicted=tuple(evicted),
        cache_events=cache_events,
        whole_cache=whole,
    )


# ---------------------------------------------------------------- what was dispatched


def test_the_prefix_of_a_dispatched_request_counts_as_there_at_once() -> None:
    h = held()
    h.expect(R1, N[:3])
    assert leading(h, N[:5]) == 3


def test_the_last_token_of_a_prompt_is_never_cached() -> None:
    h = held()
    h.expect(R1, N[:3])
    assert h.cached_tokens(request(prompt=3, block_hashes=N[:3])) == 2
    assert h.cached_tokens(request(prompt=3, block_hashes=())) == 0


def test_what_two_requests_bring_is_expected_until_both_have_gone() -> None:
    h = held()
    h.hear(report(0))
    h.expect(R1, N[:3])
    h.expect(R2, N[:4])
    h.gone(R1)
    h.hear(report(0))
    assert leading(h, N) == 4
    h.gone(R2)
    h.hear(report(0))
    assert leading(h, N) == 0
    assert list(h.names) == []


def test_a_name_that_stands_twice_in_a_prompt_is_one_block() -> None:
    """Chain hashes never do; whoever names blocks in another way may."""
    h = held()
    h.hear(report(0))
    h.expect(R1, [N[0], N[1], N[0]])
    h.check_invariants([R1])
    h.gone(R1)
    h.hear(report(0))
    assert list(h.names) == []


def test_after_the_first_token_the_next_report_says_what_is_there() -> None:
    h = held()
    h.hear(report(0))
    h.expect(R1, N[:3])
    h.computed(R1)
    assert leading(h, N) == 3
    h.hear(report(2, stored=N[:2]))
    assert leading(h, N) == 2


def test_a_report_taken_before_the_first_token_takes_nothing_away() -> None:
    h = held()
    h.hear(report(0))
    h.expect(R1, N[:3])
    h.hear(report(1, stored=N[:1]))
    assert leading(h, N) == 3
    h.check_invariants([R1])


# ---------------------------------------------------------------- what the instance tells


def test_events_in_order_are_followed() -> None:
    h = held()
    h.hear(report(3, stored=N[:3]))
    h.hear(report(5, stored=N[3:4], evicted=N[:1]))
    assert sorted(h.names) == N[1:4]
    assert not h.must_ask(0.0)


def test_what_was_heard_before_is_not_heard_again() -> None:
    h = held()
    first, second = report(2, stored=N[:2]), report(4, evicted=N[:2])
    for one in (first, first, second, first, second):
        h.hear(one)
    assert list(h.names) == []
    assert not h.must_ask(0.0)


def test_an_unknown_block_may_be_evicted() -> None:
    h = held()
    h.hear(report(1, evicted=N[:1]))
    h.hear(report(2, stored=N[1:2]))
    assert list(h.names) == N[1:2]
    assert not h.must_ask(0.0)


def test_a_gap_makes_the_fleet_ask_once_a_second_until_it_hears_everything() -> None:
    h = held()
    h.hear(report(2, stored=N[:2]))
    h.hear(report(5, stored=N[3:4]))  # One event between them was lost.
    assert h.must_ask(1.0)
    assert not h.must_ask(1.0)
    assert h.must_ask(1.0 + ASK_AGAIN_S)
    h.hear(report(6, stored=N[4:5]))
    assert h.must_ask(1.0 + 2 * ASK_AGAIN_S), "only the whole cache sets it right"
    h.hear(report(6, stored=N[:5], whole=True))
    assert not h.must_ask(10.0)
    assert sorted(h.names) == N[:5]


def test_a_gap_shows_even_where_the_next_report_has_no_news() -> None:
    h = held()
    h.hear(report(0))
    h.hear(report(2))
    assert h.must_ask(0.0)


def test_one_that_comes_up_again_with_a_full_cache_is_asked() -> None:
    """Its first word was lost: what follows does not begin at the beginning."""
    h = held()
    h.hear(report(7, stored=N[:1]))
    assert h.must_ask(0.0)


def test_an_old_picture_of_the_whole_cache_does_not_replace_a_newer_one() -> None:
    h = held()
    h.hear(report(3, stored=N[:3]))
    h.hear(report(5, evicted=N[:2]))
    h.hear(report(3, stored=N[:3], whole=True))
    assert list(h.names) == N[2:3]


def test_the_whole_cache_leaves_alone_what_is_expected() -> None:
    h = held()
    h.hear(report(2, stored=N[:2]))
    h.expect(R1, N[:4])
    h.hear(report(5, stored=N[10:11], whole=True))
    assert leading(h, N[2:4]) == 2
    assert sorted(h.names) == [*N[2:4], N[10]]
    h.check_invariants([R1])


def test_one_that_claims_more_than_it_has_blocks_is_not_believed() -> None:
    h = held(n_blocks=4)
    h.hear(report(5, stored=N[:5]))
    assert list(h.names) == []
    assert h.must_ask(0.0)
    h.hear(report(9, stored=N[:4], whole=True))
    assert sorted(h.names) == N[:4]
    assert not h.must_ask(10.0)


# ---------------------------------------------------------------- engines that tell nothing


def test_of_an_engine_that_tells_nothing_what_it_computed_is_taken_to_be_there() -> None:
    h = held()
    h.expect(R1, N[:3])
    h.expect(R2, N[5:8])
    h.computed(R1)
    h.gone(R2)
    h.hear(report(None))
    assert sorted(h.names) == N[:3]
    assert not h.must_ask(100.0)


def test_what_it_computed_longest_ago_is_forgotten_and_no_more_than_fits_is_kept() -> None:
    h = held(n_blocks=16)
    for i in range(12):
        request = RequestId(f"r{i}")
        h.expect(request, [*N[:4], *N[4 + 3 * i : 7 + 3 * i]])
        h.computed(request)
        h.check_invariants([])
        assert leading(h, N[:4]) == 4, "what all begin with was used last by the latest"
        assert len(list(h.names)) <= 16
    assert N[4] not in h.names
    assert N[4 + 33] in h.names


def test_once_it_tells_only_its_word_counts() -> None:
    h = held()
    h.expect(R1, N[:3])
    h.computed(R1)
    h.expect(R2, N[5:8])
    h.hear(report(1, stored=N[:1]))
    assert sorted(h.names) == [N[0], *N[5:8]]


# ---------------------------------------------------------------- any way at all


def test_whoever_leaves_takes_everything_along() -> None:
    index = PrefixIndex()
    one, other = HeldPrefixes(index, 20, 1), HeldPrefixes(index, 20, 1)
    one.expect(R1, N[:3])
    other.hear(report(2, stored=N[2:4]))
    one.leave()
    assert len(index) == 2
    index.check_invariants({other.slot: other.names})


@given(
    acts=st.lists(
        st.one_of(
            st.tuples(st.just("use"), st.integers(0, 39)),
            st.tuples(st.sampled_from(["tell", "lose", "double", "swap", "expect", "end"])),
        ),
        max_size=60,
    )
)
@settings(max_examples=300, deadline=None)
def test_however_reports_are_lost_doubled_and_overtaken_in_the_end_all_is_known(
    acts: list[tuple[str, int] | tuple[str]],
) -> None:
    """A pool of eight blocks takes and evicts; what it tells goes through a bad link."""
    pool, h, told = BlockPool(8), held(8), 0
    waiting: list[Report] = []
    pending: list[RequestId] = []
    now = 0.0

    def tell(whole: bool = False) -> Report:
        nonlocal told
        stored, evicted = pool.drain_changes()
        told += len(stored) + len(evicted)
        return report(told, pool.names(), whole=True) if whole else report(told, stored, evicted)

    for i, (act, *rest) in enumerate(acts):
        match act:
            case "use":
                names = [N[rest[0]]]
                blocks = pool.share(names, b"") if pool.match(names) else pool.allocate(1)
                pool.publish(blocks, names)
                pool.release(blocks, b"", now)
            case "tell":
                waiting.append(tell())
                h.hear(waiting.pop(0))
            case "lose":
                tell()
            case "double":
                waiting.append(tell())
                h.hear(waiting[-1])
            case "swap":
                waiting.append(tell())
            case "expect":
                pending.append(RequestId(f"r{i}"))
                h.expect(pending[-1], N[i % 30 : i % 30 + 4])
            case "end" if pending:
                h.gone(pending.pop())
        h.check_invariants(pending)
    for id in pending:
        h.computed(id)
    for late in waiting:
        h.hear(late)
    for _ in range(2):
        now += ASK_AGAIN_S
        h.hear(tell(whole=h.must_ask(now)))
    assert set(h.names) == set(pool.names())
    assert not h.must_ask(now + 2 * ASK_AGAIN_S)


def test_the_checker_finds_a_block_that_nobody_brought() -> None:
    h = held()
    h.expect(R1, N[:2])
    with pytest.raises(AssertionError, match="11: expected of somebody who is not waiting"):
        h.check_invariants([])
    h._here[N[7]] = EXPECTED
    with pytest.raises(AssertionError, match="11: a prefix block counts"):
        h.check_invariants([R1])
