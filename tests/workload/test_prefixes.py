"""Names of KV blocks made of a trace's ids tell apart exactly what its tokens tell apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.memory import chain_hashes
from fairlead.workload.prefixes import KEPT_NAMES, BlockNamer, block_names
from fairlead.workload.prompts import PRINTABLE_BYTES, PromptMaker
from fairlead.workload.row import IdRuns, TraceRow


def row(prompt: int, ids: tuple[int, ...], size: int, index: int = 0) -> TraceRow:
    return TraceRow(index, 0.0, prompt, 1, ids, size)


def chained(words: list[int], seen: dict[tuple[int, ...], int]) -> tuple[int, ...]:
    """Ids as traces have them: one for each different content up to there."""
    paths = [tuple(words[: n + 1]) for n in range(len(words))]
    return tuple(seen.setdefault(path, len(seen)) for path in paths)


@given(
    prompts=st.lists(
        st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=9), st.integers(1, 260)),
        min_size=2,
        max_size=6,
    ),
    size=st.sampled_from([7, 16, 24, 64]),
    block=st.sampled_from([1, 5, 16, 32, 100]),
)
def test_names_are_equal_exactly_where_the_contents_are(
    prompts: list[tuple[list[int], int]], size: int, block: int
) -> None:
    """Held against the tokens that `PromptMaker` makes of the same ids, and their hashes."""
    seen: dict[tuple[int, ...], int] = {}
    maker = PromptMaker(0, PRINTABLE_BYTES)
    rows = [
        row(n_tokens, chained(words, seen), size, index)
        for index, (words, n_tokens) in enumerate(prompts)
    ]
    named = [block_names(one, block) for one in rows]
    hashed = [chain_hashes(maker.token_ids(one), block) for one in rows]
    for one, names in zip(rows, named, strict=True):
        assert len(names) == min(one.prompt_tokens, len(one.hash_ids) * size) // block
        assert len(set(names)) == len(names)
    for a in range(len(rows)):
        for b in range(a):
            n = min(len(named[a]), len(named[b]))
            same_names = [x == y for x, y in zip(named[a][:n], named[b][:n], strict=True)]
            same_hashes = [x == y for x, y in zip(hashed[a][:n], hashed[b][:n], strict=True)]
            # Tokens of unrelated blocks may agree by chance, ids never do.
            assert all(h or not s for s, h in zip(same_names, same_hashes, strict=True))
            if size % block == 0:
                assert same_names == same_hashes


def test_only_blocks_that_ids_cover_inside_the_prompt_are_named() -> None:
    assert len(block_names(row(100, (1, 2), 64), 16)) == 6
    assert len(block_names(row(500, (1, 2), 64), 16)) == 8
    assert len(block_names(row(15, (1, 2), 64), 16)) == 0
    assert block_names(row(100, (), 0), 16) == ()


def test_a_block_across_two_trace_blocks_is_named_by_the_later() -> None:
    a = block_names(row(96, (1, 2, 3), 32), 24)
    b = block_names(row(96, (1, 2, 4), 32), 24)
    assert a[:2] == b[:2]
    assert a[2] != b[2]


def test_salts_share_no_name() -> None:
    names = [set(block_names(row(640, (1, 2), 512), 16, salt)) for salt in (b"", b"a", b"b")]
    assert not names[0] & names[1]
    assert not names[1] & names[2]


def test_runs_of_ids_are_named_like_the_ids() -> None:
    ids = (5, 6, 7, 8, 100, 101)
    runs = IdRuns((5, 4, 100, 2))
    assert tuple(runs) == ids
    assert (len(runs), runs[0], runs[4], runs[-1], runs[1:3]) == (6, 5, 100, 101, (6, 7))
    assert runs == ids
    assert block_names(TraceRow(0, 0.0, 400, 1, runs, 64), 16) == block_names(row(400, ids, 64), 16)
    with pytest.raises(IndexError):
        runs[6]


def test_a_short_prompt_leaves_the_names_of_a_longer_one_whole() -> None:
    namer = BlockNamer(16, 512)
    short = namer.names(row(40, (1, 2, 3, 4), 512))
    whole = namer.names(row(2048, (1, 2, 3, 4), 512))
    assert whole[:2] == short
    assert len(set(whole)) == 128


def test_another_trace_may_give_an_id_to_another_content() -> None:
    one, other = (block_names(row(512, ids, 64), 16) for ids in ((1, 2, 9, 4), (1, 7, 9, 4)))
    assert one[4] != other[4]
    assert one[:4] == other[:4]
    long_one, long_other = (
        block_names(row(8192, (first, *range(100, 227)), 64), 16) for first in (1, 2)
    )
    assert long_one[0] != long_other[0]


def test_what_is_remembered_is_bounded() -> None:
    namer = BlockNamer(16, 512)
    names = {}
    for i in range(KEPT_NAMES // 128 + 100):
        names[i] = namer.names(row(2048, tuple(range(4 * i, 4 * i + 4)), 512))[-1]
    assert len(namer._kept) == KEPT_NAMES // 128
    assert namer.names(row(2048, (0, 1, 2, 3), 512))[-1] == names[0]
