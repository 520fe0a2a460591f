"""What a window shows: rows of instances, classes over time, moves, requests and their stories."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.model import (
    Action,
    Arrived,
    Complete,
    CompleteWhy,
    Event,
    HandoffWhy,
    InstanceId,
    Objective,
    Outcome,
    Reject,
    RejectWhy,
    Reported,
    RequestId,
    Tick,
)
from fairlead.observe.histogram import Buckets, quantile
from fairlead.observe.metrics import Metrics
from fairlead.observe.window import Window, apply, difference
from fairlead.observe.window import recent as recent_module
from fairlead.observe.window.lately import MARKS, LatelyCounted
from fairlead.observe.window.tenants import MOST_TENANTS, OTHERS
from tests.strategies import request, spec
from tests.world import World, fleet

INTERACTIVE = Objective("interactive", ttft_s=0.5, tpot_s=0.05)


class Watched(World):
    """A world that somebody looks at through a window."""

    def __init__(self, *names: str) -> None:
        super().__init__(fleet())
        self.metrics = Metrics(self.fleet.requests)
        self.window = Window(self.metrics, self.fleet)
        for name in names:
            self.up(spec(name))

    def tell(self, event: Event) -> list[Action]:
        actions = super().tell(event)
        self.see(event, actions)
        return actions

    def see(self, event: Event, actions: Sequence[Action]) -> None:
        self.metrics.observe(event, actions, self.now)
        self.window.observe(event, actions, self.now)

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1.0
            self.tell(Tick())

    def state(self) -> dict:
        """As it arrives at whoever looks."""
        return msgspec.json.decode(msgspec.json.encode(self.window.state(self.now)))

    def row(self, table: str, name: str) -> dict:
        state = self.state()
        return dict(zip(state["columns"][table], state[table][name], strict=True))


def test_an_instance_is_new_then_well_then_silent_and_gone_when_it_goes() -> None:
    w = Watched("a")
    assert w.row("instances", "a")["health"] == "new"
    w.tell(Reported(w.instances["a"].report(w.now)))
    assert w.row("instances", "a")["health"] == "ok"
    w.pass_time(4)
    assert w.row("instances", "a")["health"] == "silent"
    w.kill("a")
    assert w.state()["instances"] == {}


def test_a_row_tells_how_full_an_instance_is() -> None:
    w = Watched("a")
    w.arrive(request("r1", prompt=40))
    w.deliver_to_instance("a")
    w.begin_step("a")
    w.end_step("a")
    w.tell(Reported(w.instances["a"].report(w.now)))
    row = w.row("instances", "a")
    assert (row["batch"], row["queue"], row["requests"], row["role"]) == (1, 0, 1, "mixed")
    assert row["kv"] == pytest.approx(10 / 32, abs=0.01)


def test_a_request_is_told_from_its_arrival_to_its_end() -> None:
    w = Watched("a", "b")
    w.arrive(request("r0"))
    w.arrive(request("r1", objective=INTERACTIVE, tenant="alice"))
    assert w.row("requests", "r1")["state"] == "prefill"
    w.settle()
    row = w.row("requests", "r1")
    assert (row["state"], row["output_tokens"], row["instance"]) == ("met", 5, "b")
    story = w.window.story("r1")
    assert story is not None
    told = " / ".join(moment.text for moment in story.moments)
    assert "sent to b: the routing policy's choice; it then held 0 requests, the others 1" in told
    assert story.verdict.startswith("objective met")


def test_a_lost_instance_is_part_of_the_story() -> None:
    w = Watched("a", "b")
    w.arrive(request("r1", out=6))
    for _ in range(3):
        w.now += 1.0
        w.deliver_to_instance("a")
        w.begin_step("a")
        w.end_step("a")
        w.deliver_to_fleet("a")
    w.kill("a")
    w.settle()
    story = w.window.story("r1")
    assert story is not None
    told = " / ".join(moment.text for moment in story.moments)
    assert "sent to b, to go on at token 3: a was lost (killed)" in told


def test_a_rejected_request_is_shown_and_told() -> None:
    w = Watched()
    w.now = 1.0
    w.arrive(request("r1", model="unknown"))
    assert w.row("requests", "r1")["state"] == "rejected"
    story = w.window.story("r1")
    assert story is not None
    assert "no pool serves its model" in story.moments[-1].text


def test_only_so_many_a_second_are_followed_and_all_are_counted() -> None:
    w = Watched("a")
    for i in range(3 * recent_module.FOLLOWED_PER_S):
        w.arrive(request(f"r{i}", prompt=1, out=1))
    assert len(w.state()["requests"]) == recent_module.FOLLOWED_PER_S
    assert w.state()["totals"]["under_way"] == 3 * recent_module.FOLLOWED_PER_S
    assert w.window.story("r59") is None


def test_what_went_wrong_is_kept_when_hundreds_went_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_module, "KEPT_MET", 3)
    w = Watched("a")
    w.arrive(request("bad", objective=Objective("x", ttft_s=1e-9)))
    w.settle()
    for i in range(10):
        w.now += 1.0
        w.arrive(request(f"r{i}", prompt=1, out=1))
        w.settle()
    rows = w.state()["requests"]
    assert list(rows) == ["bad", "r7", "r8", "r9"]
    assert w.row("requests", "bad")["state"] == "missed"


def test_requests_are_remembered_without_their_prompts() -> None:
    """A thousand of a million tokens each would take the gateway's memory."""
    w = Watched("a")
    w.arrive(request("r1", prompt=64, out=1, chat=b"hello"))
    w.settle()
    (held,) = [followed.request for followed in w.window._recent._all.values()]
    assert (held.token_ids, held.block_hashes, held.chat) == ((), (), b"")
    assert w.row("requests", "r1")["prompt_tokens"] == 64


def test_a_cancel_that_follows_the_end_of_its_request_changes_nothing() -> None:
    w = Watched("a")
    w.arrive(request("r1"))
    w.cancel("r1")
    assert w.row("requests", "r1")["state"] == "cancelled"
    w.settle()
    assert w.state()["totals"]["under_way"] == 0


def test_classes_are_counted_in_bins_and_a_quiet_bin_names_nobody() -> None:
    w = Watched("a")
    w.pass_time(1)
    w.arrive(request("r1", objective=INTERACTIVE, arrival_s=1.0))
    w.arrive(request("r2", objective=Objective("task", deadline_s=1e-9)))
    w.settle()
    w.pass_time(4)
    bins = w.state()["bins"]
    assert [counts for _, counts in bins] == [{"interactive": [1, 0], "task": [0, 1]}, {}]
    classes = w.state()["classes"]
    assert (classes["interactive"]["met"], classes["task"]["missed"]) == (1, 1)
    assert 0 < classes["interactive"]["ttft_s"]["p50"] < 0.5


def test_a_move_is_shown_while_it_goes_on() -> None:
    w = Watched("a", "b")
    w.arrive(request("r1", out=20))
    for _ in range(2):
        w.now += 1.0
        w.deliver_to_instance("a")
        w.begin_step("a")
        w.end_step("a")
        w.deliver_to_fleet("a")
    w.pass_time(1)
    tracked = w.fleet.requests[RequestId("r1")]
    to = w.fleet.instances[InstanceId("b")]
    move = w.fleet.handoffs.begin(tracked, to, HandoffWhy.REBALANCE, w.now)
    w.see(Tick(), [move])
    assert w.state()["totals"]["handoffs_under_way"] == 1
    row = w.row("handoffs", "r1")
    assert (row["source"], row["target"], row["why"]) == ("a", "b", "rebalance")
    assert w.row("requests", "r1")["state"] == "moving"
    w.fleet.handoffs.abandon(tracked)
    assert w.state()["handoffs"] == {}


def test_tenants_are_shown_only_where_somebody_has_a_name_and_never_without_bound() -> None:
    w = Watched("a")
    w.arrive(request("r0", prompt=1, out=1))
    w.settle()
    assert w.state()["tenants"] == {}
    tenants = w.window._tenants
    for i in range(MOST_TENANTS + 50):
        tenants.ended(request(f"t{i}", tenant=f"t{i}"), True, 7)
    shown = w.state()["tenants"]
    assert len(shown) == MOST_TENANTS + 1
    assert shown["t0"] == {"met": 1, "missed": 0, "output_tokens": 7, "prompt_tokens": 10}
    assert shown[OTHERS]["met"] == 51


def test_rates_are_those_of_the_last_seconds() -> None:
    w = Watched("a")
    w.pass_time(1)
    for i in range(30):
        w.arrive(request(f"r{i}", prompt=1, out=1))
        w.pass_time(1)
    assert w.state()["totals"]["requests_per_s"] == pytest.approx(1.0)
    w.pass_time(30)
    assert w.state()["totals"]["requests_per_s"] == 0


def test_the_last_minute_forgets_what_came_before_it() -> None:
    histogram = Buckets((1.0, 2.0, 4.0))
    lately = LatelyCounted(histogram)
    histogram.add(0.5)
    assert (lately.n(), lately.quantile(0.5)) == (1, 0.5)
    for _ in range(MARKS):
        lately.mark()
    assert (lately.n(), lately.quantile(0.5)) == (0, None)
    histogram.add(9.0)
    assert lately.quantile(0.5) == 4.0


def test_a_quantile_lies_in_its_bucket() -> None:
    assert quantile((1.0, 2.0), [0, 4, 0], 0.5) == 1.5
    assert quantile((1.0, 2.0), [2, 2, 0], 0.5) == 1.0


rows = st.dictionaries(st.sampled_from("abcd"), st.lists(st.integers(0, 2), max_size=2))
pictures = st.fixed_dictionaries(
    {
        "instances": rows,
        "requests": rows,
        "totals": st.dictionaries(st.sampled_from("xy"), st.integers(0, 1)),
    }
)


@given(pictures, pictures)
def test_a_picture_with_its_changes_is_the_next_picture(old: dict, new: dict) -> None:
    assert apply(old, difference(old, new)) == new


def test_nothing_new_is_no_change_and_bins_are_only_added() -> None:
    old = {"instances": {"a": [1]}, "bins": [[1.0, {}]], "totals": {"x": 1}}
    assert difference(old, old) == {}
    new = {**old, "bins": [[1.0, {}], [3.0, {"x": [1, 0]}]]}
    assert difference(old, new) == {"bins": [[3.0, {"x": [1, 0]}]]}
    assert apply(old, difference(old, new)) == new


def test_an_end_is_told_with_what_was_kept() -> None:
    metrics = Metrics()
    told: list[tuple[str, bool, int]] = []
    metrics.ended.append(lambda request, met, n: told.append((request.id, met, n)))
    for i in (1, 2):
        metrics.observe(Arrived(request(f"r{i}")), [], 0.0)
    reject = Reject(RequestId("r1"), RejectWhy.QUEUE_FULL, 1.0)
    end = Complete(RequestId("r2"), Outcome.FINISHED, None, CompleteWhy.ENDED)
    metrics.observe(Tick(), [reject, end], 1.0)
    assert told == [("r1", False, 0), ("r2", True, 0)]
