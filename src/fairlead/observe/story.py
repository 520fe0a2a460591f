"""What happened to a request, and why, in plain sentences: read from the event log alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fairlead.model import (
    CancelWhy,
    CompleteWhy,
    DispatchWhy,
    HandoffWhy,
    Objective,
    RefuseWhy,
    RejectWhy,
)
from fairlead.observe.read_log import KNOWN_IDS, Line

DISPATCHED = {
    DispatchWhy.ROUTED: "the routing policy's choice",
    DispatchWhy.QUEUED: "it had waited in the fleet's own queue",
    DispatchWhy.REFUSED_ELSEWHERE: "another instance had refused it",
    DispatchWhy.INSTANCE_LOST: "its instance was lost",
    DispatchWhy.MOVED: "it had waited elsewhere, and is sooner served here",
    DispatchWhy.LOST_ON_THE_WAY: "reports showed that it had not reached its instance",
}
HANDED_OFF = {
    HandoffWhy.PREFILL_DONE: "its prompt was computed, and it decodes where others decode",
    HandoffWhy.REBALANCE: "it is better off there",
    HandoffWhy.DEFRAGMENT: "another request needed the room in one piece",
    HandoffWhy.DRAIN: "its instance was to be emptied",
}
REJECTED = {
    RejectWhy.QUEUE_FULL: "the fleet's queue was full",
    RejectWhy.NO_HEADROOM: "it was predicted to miss its objective on every instance",
    RejectWhy.WAITED_TOO_LONG: "it had waited too long for an instance",
    RejectWhy.NO_INSTANCE: "no pool serves its model",
    RejectWhy.TOO_LONG: "it fits into no instance",
    RejectWhy.UNSUPPORTED: "no engine can do what it asks for",
    RejectWhy.DRAINING: "the fleet was draining",
}
REFUSED = {
    RefuseWhy.QUEUE_FULL: "its queue was full",
    RefuseWhy.TOO_LONG: "it could never fit into its context or KV memory",
    RefuseWhy.DRAINING: "it was draining",
    RefuseWhy.UNSUPPORTED: "its engine cannot do what the request asks for",
    RefuseWhy.CANNOT_GO_ON: "its engine cannot go on with an answer begun elsewhere",
    RefuseWhy.FAILED: "its engine failed at it",
}
CANCELLED = {
    CancelWhy.CLIENT_LEFT: "its client had left",
    CancelWhy.CLIENT_SLOW: "its client read too slowly",
    CancelWhy.SUPERSEDED: "a newer attempt had taken its place",
}
COMPLETED = {
    CompleteWhy.ENDED: "",
    CompleteWhy.CLIENT_LEFT: "its client left",
    CompleteWhy.CLIENT_SLOW: "its client read too slowly",
    CompleteWhy.INSTANCES_LOST: "it had lost one instance after the other",
    CompleteWhy.NO_INSTANCE_LEFT: "no instance was left to go on",
    CompleteWhy.NOWHERE_FITS: "its instance was lost, and no other can hold it",
    CompleteWhy.CANNOT_GO_ON: "its instance was lost, and no other can go on with its answer",
}


@dataclass(frozen=True, slots=True)
class Moment:
    """One sentence of a story."""

    t_s: float
    """On the log's clock."""
    text: str


@dataclass(slots=True)
class RequestStory:
    """Everything that the log says of one request."""

    id: str
    asked: Line
    """The line of its arrival."""
    moments: list[Moment] = field(default_factory=list)
    end: Line | None = None

    @property
    def arrival_s(self) -> float:
        return float(self.asked["arrival_s"])

    @property
    def title(self) -> str:
        """What it asked for."""
        asked = self.asked
        words = [
            f"{asked['objective']['name']} ({promise_text(asked['objective'])})",
            f"{asked['prompt_tokens']:,} prompt tokens",
            f"at most {asked['max_tokens']:,} output tokens",
            *(f"{name} {asked[name]}" for name in ("model", "tenant", "program") if name in asked),
        ]
        return f"{self.id}: {', '.join(words)}"

    @property
    def verdict(self) -> str:
        """Whether the objective was met, and by how much."""
        return verdict(self.asked, self.end)


class Storyteller:
    """Follows a log for one request. It also counts who is where, so that it can say how full an
    instance was when the request came to it."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.story: RequestStory | None = None
        self.ids: dict[str, None] = {}
        """Ids seen, up to a number: for whoever mistyped one."""
        self.instances: dict[str, None] = {}
        self._inside: dict[str, dict[str, None]] = {}
        """Requests that each instance holds."""
        self._at: dict[str, str] = {}
        self._lost: dict[str, str] = {}
        """Why each lost instance was lost."""

    def tell(self, lines: Iterable[Line]) -> RequestStory | None:
        """The story; None where the log does not know the request."""
        for line in lines:
            self._mine(line)
            self._follow(line)
            if self.story is not None and self.story.end is not None:
                break
        return self.story

    def _mine(self, line: Line) -> None:
        if line.get("request") != self.id:
            return
        what = line["what"]
        if what == "arrived":
            self.story = RequestStory(self.id, line)
        if self.story is None:
            return
        text = _SENTENCES[what](line, self) if what in _SENTENCES else what
        if text:
            self.story.moments.append(Moment(line["t"], text))
        if what in ("complete", "reject"):
            self.story.end = line

    def _follow(self, line: Line) -> None:
        what, request, instance = line["what"], line.get("request"), line.get("instance")
        if instance is not None:
            self.instances[instance] = None
        for id in (request, instance):
            if id is not None and len(self.ids) < KNOWN_IDS:
                self.ids[id] = None
        if what == "instance-up":
            self._inside[str(instance)] = {}
        elif what == "instance-down":
            self._inside.pop(str(instance), None)
            self._lost[str(instance)] = line.get("why") or "its connection ended"
        elif what == "dispatch" or (what == "first-token" and line["position"]):
            self._move(str(request), instance)
        elif what in ("complete", "reject", "refused", "cancelled"):
            self._move(str(request), None)

    def _move(self, request: str, to: str | None) -> None:
        old = self._at.pop(request, None)
        if old in self._inside:
            self._inside[old].pop(request, None)
        if to is not None:
            self._at[request] = to
            self._inside.setdefault(to, {})[request] = None

    # ---------------------------------------------------------------- sentences

    def arrived(self, line: Line) -> str:
        waited_s = float(line["t"]) - float(line["arrival_s"])
        return f"arrived {waited_s:.3g} s before" if waited_s > 0.001 else "arrived"

    def dispatched(self, line: Line) -> str:
        to = line["instance"]
        why = DispatchWhy(line["why"])
        because = DISPATCHED[why]
        if why is DispatchWhy.INSTANCE_LOST and (old := self._at.get(self.id)) in self._lost:
            because = f"{old} was lost ({self._lost[str(old)]})"
        again = f", to go on at token {line['at_token']}" if line["at_token"] else ""
        crowd = line.get("crowd") or self._crowd(to)
        return f"sent to {to}{again}: {because}; {crowd_text(*crowd)}"

    def _crowd(self, instance: str) -> Sequence[int]:
        """How many requests it holds; and the others, at least and at most."""
        mine = len(self._inside.get(instance, ()))
        others = [len(inside) for name, inside in self._inside.items() if name != instance]
        return (mine, min(others), max(others)) if others else (mine,)

    def first_token(self, line: Line) -> str:
        if not line["position"]:
            return f"first token from {line['instance']}"
        gap = f", {line['t'] - line['since_s']:.3g} s after the one before"
        return f"went on at token {line['position']} on {line['instance']}{gap}"

    def handoff(self, line: Line) -> str:
        return f"to be handed off to {line['target']}: {HANDED_OFF[HandoffWhy(line['why'])]}"

    def handed_off(self, line: Line) -> str:
        if line["done"]:
            return f"left {line['instance']} with its KV"
        return f"the hand-off came to nothing; it stays on {line['instance']}"

    def refused(self, line: Line) -> str:
        return f"refused by {line['instance']}: {REFUSED[RefuseWhy(line['why'])]}"

    def preempted(self, line: Line) -> str:
        return (
            f"preempted on {line['instance']}: its KV memory went to others, and must be computed "
            "again"
        )

    def cancelled(self, line: Line) -> str:
        return f"cancelled: {CANCELLED[CancelWhy(line['why'])]}"

    def cancel(self, line: Line) -> str:
        why = CANCELLED[CancelWhy(line["why"])]
        return f"attempt {line['attempt']} on {line['instance']} was stopped: {why}"

    def rejected(self, line: Line) -> str:
        retry_s = line.get("retry_after_s")
        again = f"; it was told to come back in {retry_s:.3g} s" if retry_s is not None else ""
        return f"rejected: {REJECTED[RejectWhy(line['why'])]}{again}"

    def completed(self, line: Line) -> str:
        because = COMPLETED[CompleteWhy(line["why"])]
        n = line["output_tokens"]
        tokens = f"{n:,} output token{'s' * (n != 1)}"
        if line["outcome"] != "finished":
            return f"{line['outcome']} after {tokens}: {because}"
        cached, prompt = line["cached_tokens"], self.story and self.story.asked["prompt_tokens"]
        found = f"; {cached:,} of {prompt:,} prompt tokens were cached" if cached else ""
        return f"finished ({line.get('reason', 'ended')}) with {tokens}{found}"


_SENTENCES = {
    "arrived": lambda line, by: by.arrived(line),
    "dispatch": lambda line, by: by.dispatched(line),
    "first-token": lambda line, by: by.first_token(line),
    "handoff": lambda line, by: by.handoff(line),
    "handed-off": lambda line, by: by.handed_off(line),
    "refused": lambda line, by: by.refused(line),
    "preempted": lambda line, by: by.preempted(line),
    "cancelled": lambda line, by: by.cancelled(line),
    "cancel": lambda line, by: by.cancel(line),
    "reject": lambda line, by: by.rejected(line),
    "complete": lambda line, by: by.completed(line),
}


def logged_id(id: str) -> str:
    """What the log calls the first choice of an answer that an API gave this id."""
    for prefix in ("chatcmpl-", "cmpl-", "embd-", "msg_", "resp_"):
        if id.startswith(prefix):
            return f"{id.removeprefix(prefix)}.0"
    return id


def crowd_text(mine: int, low: int | None = None, high: int = 0) -> str:
    """`it then held 12 requests, the others 9 to 15`."""
    held = f"it then held {mine:,} request{'s' * (mine != 1)}"
    if low is None:
        return held
    return f"{held}, the others {low:,}" + (f" to {high:,}" if high > low else "")


def promise_text(objective: Mapping[str, Any]) -> str:
    """`TTFT 1 s, TPOT 0.05 s`."""
    names = (("TTFT", "ttft_s"), ("TPOT", "tpot_s"), ("deadline", "deadline_s"))
    parts = [f"{name} {objective[key]:g} s" for name, key in names if key in objective]
    return ", ".join(parts) or "no time objective"


def verdict(asked: Line, end: Line | None) -> str:
    """`objective met: TTFT 0.21 s of 1 s …`, or what it missed and by how much."""
    if end is None:
        return "the log ends before it did"
    if end["what"] == "reject" or end["outcome"] != "finished":
        return "objective missed: it did not finish"
    times = end_times(asked, end)
    objective = Objective(**asked["objective"])
    met = kept(asked, end)
    parts = [
        _against(name, times[key], getattr(objective, key))
        for name, key in (("TTFT", "ttft_s"), ("TPOT", "tpot_s"), ("end to end", "deadline_s"))
        if times[key] is not None
    ]
    head = "objective met" if met else "objective missed"
    return f"{head if objective.timed else 'finished, and had no time objective'}: " + ", ".join(
        parts
    )


def kept(asked: Line, end: Line) -> bool:
    """Whether its objective was met."""
    if end["what"] == "reject" or end["outcome"] != "finished":
        return False
    times = end_times(asked, end)
    objective = Objective(**asked["objective"])
    return objective.met(times["ttft_s"] or 0.0, times["tpot_s"], times["deadline_s"] or 0.0)


def end_times(asked: Line, end: Line) -> dict[str, float | None]:
    """What its client saw: keys as in an objective, `deadline_s` is the time end to end."""
    arrival_s, first_s, last_s, n = (
        asked["arrival_s"],
        end["first_s"],
        end["last_s"],
        end["output_tokens"],
    )
    return {
        "ttft_s": None if first_s is None else first_s - arrival_s,
        "tpot_s": (last_s - first_s) / (n - 1) if first_s is not None and n > 1 else None,
        "deadline_s": None if last_s is None else last_s - arrival_s,
    }


def _against(name: str, value_s: float | None, limit_s: float | None) -> str:
    assert value_s is not None
    if limit_s is None:
        return f"{name} {value_s:.3g} s"
    side = "over" if value_s > limit_s else "to spare"
    return f"{name} {value_s:.3g} s of {limit_s:g} s ({abs(value_s - limit_s):.3g} s {side})"
