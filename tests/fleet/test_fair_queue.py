"""With fair sharing requests wait in the fleet, and go in turns."""

from __future__ import annotations

from random import Random
from typing import Any

from fairlead.fleet import Fleet, Limits
from fairlead.fleet.queue import LOOKED_AT, PASSED_OVER
from fairlead.model import (
    Dispatch,
    InstanceId,
    Objective,
    Produced,
    Reject,
    RejectWhy,
    Tick,
    Tokens,
)
from fairlead.policies.registry import build
from tests.strategies import request, spec
from tests.world import World

A = InstanceId("a")
CHAT = Objective("chat", ttft_s=1.0)
TASK = Objective("task", deadline_s=30.0)
BATCH = Objective("batch")


class ShortToA:
    """Routing for which a is best for short prompts, and the last instance for long ones."""

    def rank(self, request: Any, candidates: Any, now: float) -> list[Any]:
        return sorted(candidates, key=lambda view: view.id, reverse=request.prompt_tokens > 10)


def fair_fleet(admission: Any = "always", routing: Any = None, **limits: Any) -> Fleet:
    if isinstance(admission, str):
        admission = build("admission", admission, {}, Random(0))
    return Fleet(
        routing or build("routing", "round-robin", {}, Random(0)),
        admission,
        Limits(**limits),
        models=[spec("a").model],
        fairness=build("fairness", "vtc", {}, Random(0)),
    )


def asked(id: str, **changes: Any) -> Any:
    return request(id, **{"tenant": id[0], "objective": CHAT, **changes})


def sent(actions: list[Any]) -> list[str]:
    return [action.request.id for action in actions if isinstance(action, Dispatch)]


def rejected(actions: list[Any]) -> list[tuple[str, RejectWhy]]:
    return [(str(action.request), action.why) for action in actions if isinstance(action, Reject)]


def begin(w: World, id: str) -> list[str]:
    return sent(w.tell(Tokens(A, [Produced(request(id).id, 1, 0, [5])])))


def test_an_instance_is_sent_what_it_will_soon_begin_and_no_more() -> None:
    w = World(fair_fleet())
    w.up(spec("a"))
    assert [sent(w.arrive(asked(f"f{i}"))) for i in range(4)] == [["f0"], ["f1"], [], []]
    assert begin(w, "f0") == ["f2"]


def test_who_has_had_less_goes_next_and_nobody_passes_their_own() -> None:
    w = World(fair_fleet())
    w.up(spec("a"))
    for i in range(6):
        w.arrive(asked(f"f{i}"))
    assert sent(w.arrive(asked("c0"))) == []
    assert begin(w, "f0") == ["c0"]
    assert begin(w, "f1") == ["f2"]


def test_who_is_mid_stream_is_not_held_back() -> None:
    w = World(fair_fleet())
    w.up(spec("a"))
    w.up(spec("b"))
    for i in range(6):
        w.arrive(asked(f"f{i}"))
    actions = w.tell(Tokens(A, [Produced(request("f0").id, 1, 0, [5])]))
    assert sent(actions) == ["f4"]
    assert "f0" in sent(w.kill("a"))


def test_a_full_queue_takes_from_who_fills_it() -> None:
    w = World(fair_fleet(max_queued=3))
    w.up(spec("a", max_waiting=2))
    for i in range(5):
        w.arrive(asked(f"f{i}"))
    (end,) = w.arrive(asked("f5"))
    assert (end.request, end.why) == ("f5", RejectWhy.QUEUE_FULL)  # type: ignore[union-attr]
    (end,) = w.arrive(asked("c0"))
    assert (end.request, end.why) == ("f4", RejectWhy.QUEUE_FULL)  # type: ignore[union-attr]
    assert begin(w, "f0") == ["c0"]


def test_a_queue_that_is_kept_in_order_has_the_places_of_the_instances_queues_too() -> None:
    w = World(fair_fleet(max_queued=1))
    w.up(spec("a", max_waiting=4))
    for i in range(5):
        w.arrive(asked(f"f{i}"))
    # f0 and f1 are at the instance, which would let two more wait; f4 is the queue's own.
    assert w.ended == {}
    assert rejected(w.arrive(asked("f5"))) == [("f5", RejectWhy.QUEUE_FULL)]


def test_who_waits_their_turn_and_was_promised_no_time_does_not_wait_too_long() -> None:
    w = World(fair_fleet(max_queued_s=10.0))
    w.up(spec("a", max_waiting=4))
    for i in range(2):
        w.arrive(asked(f"f{i}"))
    w.arrive(asked("c0"))
    w.arrive(asked("b0", objective=BATCH))
    w.now += 11.0
    assert rejected(w.tell(Tick())) == [("c0", RejectWhy.WAITED_TOO_LONG)]


def test_of_one_tenants_requests_the_one_that_is_due_sooner_goes_first() -> None:
    w = World(fair_fleet())
    w.up(spec("a"))
    for i in range(2):
        w.arrive(asked(f"f{i}"))
    w.arrive(asked("f2", objective=TASK))
    w.arrive(asked("f3", objective=CHAT))
    w.now += 29.5
    w.arrive(asked("f4", objective=CHAT, arrival_s=w.now))
    # By now the task is due before the chat that has just come.
    assert [begin(w, f"f{i}") for i in range(3)] == [["f3"], ["f2"], ["f4"]]


def test_one_whose_turn_comes_too_late_leaves_it_to_another() -> None:
    w = World(fair_fleet(admission="predicted"))
    w.up(spec("a"))
    for i in range(4):
        w.arrive(asked(f"f{i}"))
    w.now += 5.0
    assert sent(w.arrive(asked("c0", arrival_s=w.now))) == []
    assert begin(w, "f0") == ["c0"]
    actions = w.tell(Tokens(A, [Produced(request("f1").id, 1, 0, [5])]))
    assert [(a.request, a.why) for a in actions if isinstance(a, Reject)] == [
        ("f2", RejectWhy.NO_HEADROOM),
        ("f3", RejectWhy.NO_HEADROOM),
    ]
    assert sent(actions) == []


class Looks:
    """Admission that remembers how many it saw waiting at the one instance."""

    def __init__(self) -> None:
        self.waiting: list[int] = []

    def retry_after_s(self, request: Any, candidates: Any, now: float) -> None:
        self.waiting += [view.waiting for view in candidates]


def test_those_who_wait_in_the_fleet_and_go_before_it_count_for_a_newcomer() -> None:
    looks = Looks()
    w = World(fair_fleet(looks))
    w.up(spec("a"))
    for i in range(4):
        w.arrive(asked(f"f{i}"))
    w.arrive(asked("f4", objective=TASK))
    w.arrive(asked("f5", objective=Objective("hurried", ttft_s=0.5)))
    # The first two are at the instance. Last, the one in a hurry, passes all who are not.
    assert looks.waiting == [0, 1, 2, 3, 4, 2]


def test_a_user_of_their_own_for_each_request_does_not_hide_those_before_it() -> None:
    looks = Looks()
    w = World(fair_fleet(looks))
    w.up(spec("a"))
    for i in range(6):
        w.arrive(asked(f"f{i}", user=f"user {i}"))
    w.arrive(asked("c0"))
    # The first two are at the instance; another tenant's turn comes before the others'.
    assert looks.waiting == [0, 1, 2, 3, 4, 5, 2]


def choice(id: str, **changes: Any) -> Any:
    return asked(id, call="the call", **changes)


def a_call_half_of_which_waits(**more: Any) -> World:
    """Its first choice is at the instance, its second queues behind another request."""
    w = World(fair_fleet(**more))
    w.up(spec("a"))
    for one in (choice("f0"), asked("f1"), asked("f2"), choice("f3"), asked("f4")):
        w.arrive(one)
    return w


def test_a_choice_is_not_turned_away_once_another_of_its_call_has_begun() -> None:
    w = a_call_half_of_which_waits(admission="predicted")
    w.now += 5.0
    # In these five seconds all that queue have become late.
    # It goes before those that came earlier and have heard nothing yet.
    actions = w.tell(Tokens(A, [Produced(request("f0").id, 1, 0, [5])]))
    assert sent(actions) == ["f3"]
    assert rejected(actions) == []
    assert sent(w.tell(Tokens(A, [Produced(request("f1").id, 1, 0, [5])]))) == []


def test_a_call_of_which_nothing_has_come_is_turned_away_choice_by_choice() -> None:
    w = a_call_half_of_which_waits(admission="predicted")
    w.now += 5.0
    actions = w.tell(Tokens(A, [Produced(request("f1").id, 1, 0, [5])]))
    assert [id for id, _ in rejected(actions)] == ["f2", "f3", "f4"]


def test_a_choice_whose_call_has_begun_makes_no_room_for_others() -> None:
    w = World(fair_fleet(max_queued=4))
    w.up(spec("a", max_sequences=2, max_waiting=1))
    for one in (choice("f0"), asked("f1"), choice("f2"), choice("f3"), choice("f4")):
        w.arrive(one)
    assert begin(w, "f0") == []
    w.arrive(asked("f5"))
    assert rejected(w.arrive(asked("c0"))) == [("f5", RejectWhy.QUEUE_FULL)]
    # It is f that crowds the queue, with a call that its client reads already.
    assert rejected(w.arrive(asked("d0"))) == [("d0", RejectWhy.QUEUE_FULL)]
    assert begin(w, "f1") == ["f2"]


def test_what_a_call_shared_goes_with_its_last_choice() -> None:
    w = a_call_half_of_which_waits()
    begin(w, "f0")
    for i in range(5):
        w.cancel(f"f{i}")
    assert rejected(w.arrive(choice("g0"))) == []
    w.arrive(asked("g1"))
    w.arrive(choice("g2"))
    assert not w.fleet.requests[request("g2").id].call_has_begun


def two_with_work() -> World:
    """Two short ones on a, two long ones on b, where others have to wait for their turns."""
    w = World(fair_fleet(routing=ShortToA()))
    w.up(spec("a"))
    w.up(spec("b"))
    for id, prompt in (("f0", 10), ("f1", 10), ("f2", 11), ("f3", 11)):
        w.arrive(asked(id, prompt=prompt))
    return w


def begin_on_b(w: World, id: str, attempt: int = 1) -> list[Any]:
    return w.tell(Tokens(InstanceId("b"), [Produced(request(id).id, attempt, 0, [5])]))


def test_one_waits_for_the_instance_that_is_best_for_it_and_lets_others_pass() -> None:
    w = two_with_work()
    assert sent(w.arrive(asked("f4", prompt=10))) == []
    assert sent(w.arrive(asked("f5", prompt=11))) == []
    (dispatch,) = [one for one in begin_on_b(w, "f2") if isinstance(one, Dispatch)]
    assert (dispatch.request.id, dispatch.instance) == ("f5", "b")
    assert begin(w, "f0") == ["f4"]


def test_who_waits_for_one_that_is_gone_goes_elsewhere() -> None:
    w = two_with_work()
    w.arrive(asked("f4", prompt=10))
    assert sent(begin_on_b(w, "f2")) == []
    assert sent(w.kill("a")) == ["f0"]
    # Before it goes who had been sent there, and has had its turn.
    assert sent(begin_on_b(w, "f3")) == ["f1"]
    assert sent(begin_on_b(w, "f0", attempt=2)) == ["f4"]


def test_in_a_line_so_many_are_passed_over_and_no_more() -> None:
    w = two_with_work()
    for i in range(LOOKED_AT):
        w.arrive(asked(f"f{10 + i}", prompt=10))
    w.arrive(asked("f99", prompt=11))
    assert sent(begin_on_b(w, "f2")) == []
    assert begin(w, "f0") == ["f10", "f99"]


def test_of_a_crowd_of_users_so_many_are_asked_and_no_more(monkeypatch: Any) -> None:
    """Each has a line of their own, and all wait for the same instance."""
    w = two_with_work()
    for i in range(2 * PASSED_OVER):
        w.arrive(asked(f"f{10 + i}", prompt=10, user=f"user {i}"))
    asked_about = []
    monkeypatch.setattr(
        w.fleet._placement.holding, "still_waits", lambda *a: not asked_about.append(a)
    )
    assert sent(begin_on_b(w, "f2")) == []
    assert len(asked_about) == PASSED_OVER
