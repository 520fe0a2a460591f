"""Tenants whose prefixes are their own cannot evict each other's."""

from __future__ import annotations

from itertools import count

import pytest

from fairlead.instance import Instance
from fairlead.memory import chain_hashes
from fairlead.memory.cached import KEPT_S
from fairlead.model import Request, StepResult
from tests.strategies import BLOCK_TOKENS, instance, request

IDS = count()
PREFIX = list(range(10 * BLOCK_TOKENS))
"""Ten blocks of a cache of sixty, which each flood of unique prompts fills anew."""


def ask(prompt: list[int], salt: bytes) -> Request:
    names = chain_hashes(prompt, BLOCK_TOKENS, salt)
    return request(f"r{next(IDS)}", prompt, 1, block_hashes=names, cache_salt=salt)


def serve(inst: Instance, asked: Request, now: float) -> int:
    """Its prompt tokens that were found in the cache."""
    before = inst.planner.hit_tokens
    assert inst.submit(asked, now) is None
    while (step := inst.plan(now)) is not None:
        inst.commit(step, StepResult({row.request: [7] for row in step.rows if row.samples}), now)
        inst.check_invariants()
    return inst.planner.hit_tokens - before


def flood(inst: Instance, salt: bytes, now: float) -> None:
    for _ in range(10):
        i = 1000 * (next(IDS) + 1)
        serve(inst, ask([i + j for j in range(8 * BLOCK_TOKENS)], salt), now)


def come_back(inst: Instance, salt: bytes, now: float) -> int:
    own = [-1 - next(IDS)]
    return serve(inst, ask(PREFIX + own, salt), now)


@pytest.mark.parametrize(
    ("flooding", "hit"),
    [pytest.param(b"a", len(PREFIX), id="apart"), pytest.param(b"b", 0, id="sharing")],
)
def test_who_floods_evicts_itself_and_nobody_it_shares_nothing_with(
    flooding: bytes, hit: int
) -> None:
    """Who shares prefixes is one owner with the others, and what is longest unused goes."""
    inst = instance(n_blocks=60)
    come_back(inst, b"b", 0.0)
    for now in range(5, 60, 5):
        flood(inst, flooding, float(now))
        assert come_back(inst, b"b", float(now)) == hit


def test_the_flooded_lose_no_more_than_down_to_an_equal_share() -> None:
    """Two tenants that fill the cache have half each of what is not in use, whoever brings more."""
    inst = instance(n_blocks=60)
    held = [ask([100 * i + j for j in range(20 * BLOCK_TOKENS)], b"b") for i in range(3)]
    for asked in held:
        serve(inst, asked, 0.0)
    for now in range(1, 9):
        flood(inst, b"a", float(now))
    in_use = 8  # by a prompt of the flood
    assert found(inst, held) == (60 - in_use) // 2


def test_what_the_gone_have_left_does_not_stay_for_ever() -> None:
    inst = instance(n_blocks=60)
    left = [ask([100 * i + j for j in range(29 * BLOCK_TOKENS)], b"gone%d" % i) for i in range(2)]
    for asked in left:
        serve(inst, asked, 0.0)
    for now in (1.0, KEPT_S):
        flood(inst, b"b", now)
        assert found(inst, left) >= 2 * (60 // 3 - 3)
    flood(inst, b"b", KEPT_S + 1.0)
    assert found(inst, left) == 0


def found(inst: Instance, held: list[Request]) -> int:
    """Blocks of these prompts that are cached."""
    return sum(inst.planner.pool.match(asked.block_hashes) for asked in held)
