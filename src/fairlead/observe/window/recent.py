"""Some of the latest requests with their whole stories, in bounded memory.

At most `FOLLOWED_PER_S` a second are followed from their arrival to their end, which at low rates
is all of them. Lengths, times and decisions are kept, and no text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, structs

from fairlead.model import (
    Action,
    Arrived,
    Deliver,
    Dispatch,
    Event,
    InstanceDown,
    Request,
    RequestId,
    Tick,
)
from fairlead.observe.log import EventLog
from fairlead.observe.read_log import Line
from fairlead.observe.story import RequestStory, Storyteller, end_times, kept
from fairlead.observe.window.seen import SeenFleet

FOLLOWED_PER_S = 20
MOST_UNDER_WAY = 256
KEPT_MET = 500
KEPT_MISSED = 500
"""Apart, so that what went wrong is still there when thousands went well."""
MOST_LINES = 64
SHOWN = 60
SHOWN_MISSED = 30


class RequestRow(Struct, frozen=True, array_like=True):
    """As it goes over the wire: a list of values in this order."""

    objective: str
    tenant: str
    model: str
    state: str
    """waiting, prefill, decode, moving; met, missed, rejected, cancelled, failed"""
    instance: str
    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    ttft_s: float | None
    e2e_s: float | None


class _Followed:
    __slots__ = ("end", "first_s", "instance", "lines", "request")

    def __init__(self, request: Request) -> None:
        self.request = structs.replace(request, token_ids=(), block_hashes=(), chat=b"")
        """Without its prompt, which may be a million tokens."""
        self.instance = ""
        self.first_s: float | None = None
        self.lines: list[Line] = []
        self.end: Line | None = None

    @property
    def met(self) -> bool:
        return self.end is not None and kept(self.lines[0], self.end)


class Recent:
    """An observer: show it every event with the actions that it brought."""

    def __init__(self, fleet: SeenFleet) -> None:
        self._fleet = fleet
        self._log = EventLog(self)
        """Writes its lines to us."""
        self._under_way: dict[RequestId, _Followed] = {}
        self._all: dict[str, _Followed] = {}
        self._met: deque[str] = deque()
        self._missed: deque[str] = deque()
        self._second = -1
        self._n_this_second = 0

    def observe(self, event: Event, actions: Sequence[Action], now: float) -> None:
        if type(event) is Arrived:
            self._arrived(event.request, now)
        under_way = self._under_way
        if not under_way:
            return
        about = getattr(event, "request", None)
        if type(event) is Arrived:
            about = event.request.id
        mine = [kept for action in actions if (kept := self._of_followed(action)) is not None]
        if about in under_way or type(event) is InstanceDown:
            self._log.observe(event, mine, now)
        elif mine:
            self._log.observe(_NOTHING, mine, now)

    def story(self, id: str) -> RequestStory | None:
        """What happened to a request; None where it was not followed, or is forgotten."""
        followed = self._all.get(id)
        return None if followed is None else Storyteller(id).tell(followed.lines)

    def rows(self) -> dict[str, RequestRow]:
        """The latest, and the latest of those that missed their objective."""
        latest = sorted(self._all, key=lambda id: self._all[id].request.arrival_s)[-SHOWN:]
        missed = list(self._missed)[-SHOWN_MISSED:]
        return {id: self._row(id, self._all[id]) for id in dict.fromkeys([*missed, *latest])}

    # ---------------------------------------------------------------- following

    def _arrived(self, request: Request, now: float) -> None:
        if int(now) != self._second:
            self._second, self._n_this_second = int(now), 0
        if self._n_this_second >= FOLLOWED_PER_S or len(self._under_way) >= MOST_UNDER_WAY:
            return
        if request.id not in self._all:
            self._n_this_second += 1
            self._under_way[request.id] = self._all[request.id] = _Followed(request)

    def _of_followed(self, action: Action) -> Action | None:
        """The action, or its part, that concerns somebody who is followed."""
        under_way = self._under_way
        if type(action) is Deliver:
            rows = [row for row in action.rows if row.request in under_way]
            return Deliver(rows) if rows else None
        about = action.request.id if type(action) is Dispatch else getattr(action, "request", None)
        return action if about in under_way else None

    # ---------------------------------------------------------------- what the log says

    def write(self, line: Mapping[str, Any]) -> None:
        """A line of the log, about somebody who is followed or an instance that went."""
        what = line["what"]
        if what == "instance-down":
            for one in self._under_way.values():
                if one.instance == line["instance"]:
                    self._keep(one, line)
            return
        followed = self._under_way.get(line["request"])
        if followed is None:
            return  # It has just ended, and what it left at an instance is cleared away.
        if what == "dispatch":
            followed.instance = line["instance"]
            line = {**line, "crowd": self._crowd(line["instance"])}
        elif what == "first-token":
            followed.instance = line["instance"]
            if followed.first_s is None:
                followed.first_s = line["t"]
        if what in ("complete", "reject"):
            self._ended(line["request"], followed, line)
        else:
            self._keep(followed, line)

    def flush(self) -> None:
        """What is written is there at once."""

    def close(self) -> None:
        """There is nothing to close."""

    def _keep(self, followed: _Followed, line: Mapping[str, Any]) -> None:
        if len(followed.lines) < MOST_LINES:
            followed.lines.append(dict(line))

    def _ended(self, id: str, followed: _Followed, line: Mapping[str, Any]) -> None:
        followed.end = dict(line)
        followed.lines.append(followed.end)
        del self._under_way[RequestId(id)]
        ended, most = (self._met, KEPT_MET) if followed.met else (self._missed, KEPT_MISSED)
        ended.append(id)
        if len(ended) > most:
            del self._all[ended.popleft()]

    def _crowd(self, instance: str) -> list[int]:
        """Requests that were at the instance before this one, and those at others."""
        inside = {name: len(seen.attempts) for name, seen in self._fleet.instances.items()}
        mine = max(inside.pop(instance, 1) - 1, 0)  # type: ignore[call-overload]
        return [mine, min(inside.values()), max(inside.values())] if inside else [mine]

    # ---------------------------------------------------------------- rows

    def _row(self, id: str, followed: _Followed) -> RequestRow:
        request, end = followed.request, followed.end
        if end is None:
            output_tokens, first_s, e2e_s = self._produced(id), followed.first_s, None
        elif end["what"] == "reject":
            output_tokens, first_s, e2e_s = 0, None, None
        else:
            output_tokens, first_s = end["output_tokens"], end["first_s"]
            e2e_s = end_times(followed.lines[0], end)["deadline_s"]
        return RequestRow(
            objective=request.objective.name,
            tenant=request.tenant,
            model=request.model,
            state=self._state(id, followed),
            instance=followed.instance,
            arrival_s=round(request.arrival_s, 3),
            prompt_tokens=request.prompt_tokens,
            output_tokens=output_tokens,
            ttft_s=None if first_s is None else round(first_s - request.arrival_s, 4),
            e2e_s=None if e2e_s is None else round(e2e_s, 3),
        )

    def _produced(self, id: str) -> int:
        seen = self._fleet.requests.get(RequestId(id))
        return 0 if seen is None else seen.n_produced

    def _state(self, id: str, followed: _Followed) -> str:
        end = followed.end
        if end is not None:
            if end["what"] == "reject":
                return "rejected"
            if end["outcome"] != "finished":
                return str(end["outcome"])
            return "met" if followed.met else "missed"
        seen = self._fleet.requests.get(RequestId(id))
        if seen is None or seen.instance is None:
            return "waiting"
        if seen.moving is not None:
            return "moving"
        return "prefill" if followed.first_s is None else "decode"


_NOTHING = Tick()
"""An event that the log does not write."""
