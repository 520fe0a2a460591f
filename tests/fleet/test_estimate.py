"""What becomes of an instance's load while nobody tells."""

from __future__ import annotations

import pytest

from fairlead.fleet.estimate import CHUNK_TOKENS, Estimate
from fairlead.fleet.ledger import Ledger, Pending
from fairlead.fleet.present import Present
from fairlead.model import InstanceId, Report, RequestId
from tests.strategies import spec

ROOM = 32 * 4
"""Tokens in the blocks of `spec()`."""


class Load:
    """An estimate, its ledger and its time."""

    def __init__(self) -> None:
        self.present = Present(0.0)
        self.ledger = Ledger()
        self.estimate = Estimate(spec(), self.present, self.ledger)
        self._n = 0

    def send(self, tokens: int) -> RequestId:
        self._n += 1
        id = RequestId(f"r{self._n}")
        self.ledger.send(id, 1, Pending(tokens, tokens, float("inf"), patient=False))
        self.estimate.queue(tokens)
        self.estimate.reprice()
        return id

    def begin(self, tokens: int) -> RequestId:
        id = self.send(tokens)
        self.ledger.begin(id)
        self.estimate.begin(tokens, tokens)
        self.estimate.reprice()
        return id

    def at(self, now: float) -> Estimate:
        self.present.now = now
        self.estimate.advance()
        return self.estimate


def report(**changes: int) -> Report:
    fields = {"free_blocks": 0, "cached_blocks": 0, "queued_tokens": 0, "context_tokens": 0}
    return Report(InstanceId("a"), 0.0, running=0, waiting=0, requests=(), **{**fields, **changes})


def test_the_backlog_is_worked_off_as_fast_as_prompts_are_computed() -> None:
    load = Load()
    load.send(1000)
    rate_per_s = load.estimate.prefill_rate_per_s()
    assert load.at(0.05).backlog_tokens == pytest.approx(1000 - 0.05 * rate_per_s)


def test_while_somebody_is_pending_something_is_left_to_do() -> None:
    load = Load()
    load.send(1000)
    load.send(10)
    assert load.at(100.0).backlog_tokens == 2.0


def test_contexts_grow_by_a_token_a_step_and_take_room() -> None:
    load = Load()
    for _ in range(2):
        load.begin(20)
    steps = 0.1 / load.estimate.decode_s(2)
    load.at(0.1)
    assert load.estimate.context_tokens == pytest.approx(40 + 2 * steps)
    assert load.estimate.free_tokens == pytest.approx(ROOM - 40 - 2 * steps)


def test_when_the_last_has_gone_all_its_context_has() -> None:
    """Whatever the estimate was: it had grown to more, or to less."""
    for n_tokens in (10, 90):
        load = Load()
        id = load.begin(20)
        load.at(0.1)
        load.ledger.release(id)
        load.estimate.end(n_tokens)
        assert load.estimate.context_tokens == 0.0
        assert load.estimate.free_tokens == pytest.approx(ROOM)


def test_a_report_sets_it_right_beside_what_it_does_not_know() -> None:
    load = Load()
    first = load.begin(20)
    load.send(30)
    load.ledger.expect(RequestId("on-the-way"), 2, 12)
    load.estimate.reserve(12)
    load.present.now = 1.0
    told = report(free_blocks=10, cached_blocks=5, queued_tokens=7, context_tokens=44)
    load.estimate.correct(told, {first: 1})
    assert load.estimate.backlog_tokens == 7 + 30
    assert load.estimate.context_tokens == 44
    assert load.estimate.free_tokens == 15 * 4 - 12
    assert load.estimate.as_of_s == 1.0


def test_room_is_kept_for_who_is_on_the_way() -> None:
    load = Load()
    load.estimate.reserve(12)
    assert load.estimate.free_tokens == ROOM - 12
    load.estimate.arrive(12, 15)
    assert (load.estimate.free_tokens, load.estimate.context_tokens) == (ROOM - 15, 15)


def test_long_prompts_are_priced_by_their_middle_chunk() -> None:
    estimate = Load().estimate
    whole_s = estimate.prompt_s(4 * CHUNK_TOKENS, 4 * CHUNK_TOKENS)
    parts_s = sum(estimate.prompt_s(CHUNK_TOKENS, (i + 1) * CHUNK_TOKENS) for i in range(4))
    assert whole_s == pytest.approx(parts_s, rel=0.01)


def test_tokens_take_longer_the_more_prompts_come() -> None:
    load = Load()
    alone_s = load.estimate.token_s()
    for i in range(24):
        load.estimate.prompts.add(i * 1.0, 0.5, RequestId(f"r{i}"))
    load.at(24.0)
    assert load.estimate.token_s() == pytest.approx(2 * alone_s)
    assert load.estimate.token_s(6.0) == pytest.approx(4 * alone_s)
    assert load.estimate.token_s(prompts_at_most=0.2) == pytest.approx(alone_s / 0.8)


def test_memory_that_is_missing_is_waited_for_as_long_as_answers_take() -> None:
    load = Load()
    load.begin(100)
    step_s = load.estimate.decode_s(1)
    assert load.estimate.memory_s(ROOM - 100, 1, 50.0) == 0.0
    assert load.estimate.memory_s(ROOM - 50, 1, 50.0) == pytest.approx(0.5 * 50 * step_s)
    assert load.estimate.memory_s(1.0, 9, 50.0) == pytest.approx(2 / 8 * 50 * step_s), "seats"
