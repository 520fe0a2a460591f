"""The checker complains about what must not be, and about nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.model import (
    Action,
    Arrived,
    Cancel,
    CancelWhy,
    Complete,
    CompleteWhy,
    Deliver,
    Dispatch,
    DispatchWhy,
    Event,
    Finished,
    FinishReason,
    InstanceDown,
    InstanceId,
    InstanceUp,
    Outcome,
    Produced,
    Reject,
    RejectWhy,
    Report,
    Reported,
    RequestId,
    Tick,
    Tokens,
)
from fairlead.observe.invariants import Checker
from tests.strategies import request, spec

A, B, R1 = InstanceId("a"), InstanceId("b"), RequestId("r1")
ONE = request("r1")
FINISHED = Complete(R1, Outcome.FINISHED, FinishReason.STOP, CompleteWhy.ENDED)


def sent(to: InstanceId, attempt: int = 1, produced: tuple[int, ...] = ()) -> Dispatch:
    return Dispatch(to, ONE, attempt, produced, DispatchWhy.ROUTED)


def row(attempt: int, start: int, n: int = 1) -> Produced:
    return Produced(R1, attempt, start, [7] * n)


def tokens(of: InstanceId, *rows: Produced) -> tuple[Event, list[Action]]:
    return Tokens(of, rows), [Deliver(rows)]


def report(of: InstanceId, *inside: tuple[RequestId, int], as_of_s: float = 1.0) -> Event:
    numbers: dict[str, Any] = dict.fromkeys(
        ("free_blocks", "cached_blocks", "running", "waiting", "queued_tokens", "context_tokens"), 0
    )
    return Reported(Report(of, as_of_s, **numbers, requests=inside))


def play(*story: tuple[Event, list[Action]]) -> Checker:
    """Two instances are up and the request has arrived and is at the first of them."""
    checker = Checker()
    begin: list[tuple[Event, list[Action]]] = [
        (InstanceUp(spec("a")), []),
        (InstanceUp(spec("b")), []),
        (Arrived(ONE), [sent(A)]),
    ]
    for event, actions in [*begin, *story]:
        checker.observe(event, actions, 0.0)
    return checker


def test_an_ordinary_life_is_in_order() -> None:
    checker = play(
        tokens(A, row(1, 0)),
        (InstanceDown(A), [sent(B, 2, (7,))]),
        tokens(B, row(2, 1, 2)),
        (Finished(B, R1, 2, FinishReason.STOP, 0, 3), [FINISHED]),
    )
    assert checker.open == 0


@pytest.mark.parametrize(
    ("complaint", "story"),
    [
        ("1: r1 ended, and never arrived", [(Tick(), [FINISHED]), (Tick(), [])]),
        ("2: r1 ended twice", [(Tick(), [FINISHED]), (Tick(), [FINISHED])]),
        ("2: r1 got tokens after it ended", [(Tick(), [FINISHED]), tokens(A, row(1, 0))]),
        (
            "2: r1 was rejected after 1 tokens",
            [tokens(A, row(1, 0)), (Tick(), [Reject(R1, RejectWhy.TOO_LONG, None)])],
        ),
        ("5: r1 got position 1, not 0", [tokens(A, row(1, 1))]),
        ("5: r1 got position 0, not 1", [tokens(A, row(1, 0)), tokens(A, row(1, 0))]),
        ("5: r1 finished with 1 of 2 tokens", [
            tokens(A, row(1, 0)),
            (Finished(A, R1, 1, FinishReason.STOP, 0, 2), [FINISHED]),
        ]),
        ("4: r1 got tokens of attempt 2", [tokens(A, row(2, 0))]),
        ("4: r1 got tokens of attempt 1 on b", [tokens(B, row(1, 0))]),
        ("4: r1 was sent to b while a had it", [(Tick(), [sent(B, 2)])]),
        ("4: attempt 3 of r1 follows 1", [(InstanceDown(A), [sent(B, 3)])]),
        ("4: r1 was sent to a, which is down", [(InstanceDown(A), [sent(A, 2)])]),
        ("5: r1 resumes at the wrong position", [(InstanceDown(A), [sent(B, 2, (7,))])]),
        ("4: b works on attempt 1 of r1, which is void", [(report(B, (R1, 1)), [])]),
    ],
)  # fmt: skip
def test_what_must_not_be_is_named(complaint: str, story: list[Any]) -> None:
    if complaint.startswith("1:"):
        with pytest.raises(AssertionError, match=complaint):
            Checker().observe(*story[0], 0.0)
        return
    with pytest.raises(AssertionError, match=complaint):
        play(*story)


def test_what_an_instance_lets_go_may_be_sent_elsewhere() -> None:
    stopped = Cancel(A, R1, 1, CancelWhy.SUPERSEDED)
    for event, actions in (
        (report(A), []),
        (Tokens(A, [row(1, 3)]), [stopped]),
        (InstanceUp(spec("a", incarnation="a-2")), []),
    ):
        play((event, [*actions, sent(B, 2)]))


def test_a_report_that_was_overtaken_asks_for_nothing() -> None:
    stop = Cancel(B, R1, 1, CancelWhy.SUPERSEDED)
    play((report(B, (R1, 1), as_of_s=2.0), [stop]), (report(B, (R1, 1), as_of_s=1.0), []))


def test_time_never_runs_back() -> None:
    checker = Checker()
    checker.observe(Tick(), [], 1.0)
    with pytest.raises(AssertionError, match="6: time ran back"):
        checker.observe(Tick(), [], 0.5)
