"""Who waits at an instance, for how long, and who goes before whom."""

from __future__ import annotations

import pytest

from fairlead.fleet.due_order import Ahead
from fairlead.fleet.estimate import Estimate
from fairlead.fleet.instance_queue import ALWAYS_WAITING, InstanceQueue
from fairlead.fleet.ledger import Ledger, Pending
from fairlead.fleet.lengths import OutputLengths
from fairlead.fleet.present import Present
from fairlead.model import Objective, Request, RequestId
from tests.strategies import request, spec

SOON, LATER = Objective("soon", ttft_s=1.0), Objective("later", ttft_s=9.0)
TASK = Objective("task", deadline_s=60.0)
TEN = Ahead(10, 0.0, 0)


class Line:
    """A queue, and who stands in it."""

    def __init__(self, *, urgent_first: bool = True) -> None:
        the_spec = spec(urgent_first=urgent_first)
        self.present = Present(0.0)
        self.ledger = Ledger()
        self.estimate = Estimate(the_spec, self.present, self.ledger)
        self.queue = InstanceQueue(
            the_spec, self.present, self.ledger, self.estimate, OutputLengths()
        )

    def wait(self, one: Request) -> None:
        self.queue.joins()
        tokens, due_s = one.prompt_tokens, self.queue.due_s(one)
        pending = Pending(tokens, tokens, due_s, one.objective.patient)
        self.ledger.send(one.id, 1, pending)
        self.estimate.queue(tokens)
        self.estimate.reprice()

    def begin(self, id: str) -> None:
        self.queue.began(self.ledger.begin(RequestId(id)).patient)

    def ahead(self, one: Request) -> tuple[int, float]:
        """Who goes before it, and their tokens."""
        ahead = self.queue.ahead(one)
        return ahead.n, ahead.tokens


def test_who_is_due_later_is_passed_where_the_urgent_go_first() -> None:
    urgent, fair = Line(), Line(urgent_first=False)
    for line in (urgent, fair):
        line.wait(request("r1", 10, objective=SOON))
        line.wait(request("r2", 30, objective=LATER))
        line.wait(request("r3", 50))
    one = request("new", objective=SOON)
    assert urgent.ahead(one) == (1, 10.0)
    assert fair.ahead(one) == (3, 90.0)


def test_who_is_late_already_is_passed() -> None:
    line = Line()
    line.wait(request("r1", 10, objective=SOON))
    line.present.now = 2.0
    assert line.ahead(request("new", arrival_s=2.0, objective=SOON)) == (0, 0.0)


def test_what_is_worked_off_is_not_ahead_any_more() -> None:
    line = Line()
    for i in range(2):
        line.wait(request(f"r{i}", 30, objective=SOON))
    line.estimate.backlog_tokens = 45.0
    assert line.ahead(request("new", objective=SOON)) == (2, 45.0)


def test_one_that_waits_is_not_before_itself() -> None:
    line = Line()
    first, last = request("r1", 10, objective=SOON), request("r2", 30, objective=LATER)
    for one in (last, first, request("r3", 50)):
        line.wait(one)
    assert line.ahead(first) == (0, 0.0)
    assert line.ahead(last) == (1, 10.0)
    line.estimate.backlog_tokens = 85.0  # Of 90: half of the first one is computed.
    assert line.ahead(last) == (1, 5.0)
    assert (line.queue.left_tokens(first.id), line.queue.left_tokens(last.id)) == (5, 30)


def test_where_nobody_is_urgent_who_was_sent_before_goes_before() -> None:
    line = Line(urgent_first=False)
    for one in (request("r1", 10), request("r2", 30, objective=SOON)):
        line.wait(one)
    assert line.ahead(request("r2", 30, objective=SOON)) == (1, 10.0)


def test_a_patient_one_waits_for_the_patient_before_it_only() -> None:
    line = Line()
    for i in range(20):
        line.present.now = i * 0.1
        line.wait(request(f"begun{i}", objective=TASK))
        line.wait(request(f"next{i}", arrival_s=float(i), objective=TASK))
        line.begin(f"begun{i}")
    line.present.now = 2.0
    first, last = (request(f"next{i}", arrival_s=float(i), objective=TASK) for i in (0, 19))
    assert line.queue.ahead(first).n_patient == 0
    assert line.queue.wait_s(first, line.queue.ahead(first)) == 0.0
    assert line.queue.wait_s(last, line.queue.ahead(last)) > 1.0
    # It lets others go first until it is due, and no longer.
    line.present.now = 50.0
    ahead = line.queue.ahead(last)
    turn_s = line.queue.wait_s(request("new", objective=SOON), ahead)
    left_s = line.ledger.pending[last.id].due_s - 50.0
    assert line.queue.wait_s(last, ahead) - turn_s == pytest.approx(left_s)
    new = request("new", objective=TASK)
    assert line.queue.wait_s(new, ahead) - turn_s > 1.5 * left_s


def test_who_has_only_a_deadline_is_due_early_enough_for_the_answer() -> None:
    line = Line()
    short, long = (request(f"r{n}", out=n, objective=TASK) for n in (10, 100))
    assert line.queue.due_s(long) < line.queue.due_s(short) < 60.0
    assert line.queue.begin_by_s(long) < line.queue.due_s(long), "answers may be longer"
    assert line.queue.due_s(request()) == float("inf")


def test_some_may_always_wait_and_more_where_turns_come_fast() -> None:
    line, one = Line(urgent_first=False), request("new")
    for i in range(ALWAYS_WAITING):
        assert line.queue.has_turn(one, 1.0)
        line.wait(request(f"r{i}"))
    assert not line.queue.has_turn(one, 1.0)
    for i in range(ALWAYS_WAITING + 1):
        line.wait(request(f"begun{i}"))
        line.begin(f"begun{i}")
    assert line.queue.has_turn(one, 1.0)
    line.present.now = 2.0
    assert not line.queue.has_turn(one, 1.0), "that was long ago"


def test_who_is_in_time_has_a_turn_before_those_who_are_not() -> None:
    line = Line()
    for i in range(3):
        line.wait(request(f"r{i}"))
    assert line.queue.has_turn(request("new", objective=SOON), 0.1)
    assert not line.queue.has_turn(request("new", objective=SOON), 5.0), "it would be late"
    assert not line.queue.has_turn(request("new"), 0.1)


def test_a_queue_that_has_just_begun_says_nothing_of_its_pace() -> None:
    line, one = Line(), request("new", objective=SOON)
    line.wait(request("first"))
    for i in range(20):
        line.present.now = i * 0.1
        line.wait(request(f"r{i}"))
        line.begin(f"r{i}")
    line.present.now = 2.0
    assert line.queue.wait_s(one, TEN) == pytest.approx(1.0, rel=0.1)
    line.begin("first")
    line.present.now = 3.0
    line.wait(request("last"))
    assert line.queue.wait_s(one, TEN) == 0.0
