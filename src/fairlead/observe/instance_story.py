"""What happened to an instance: read from the event log alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from fairlead.observe.read_log import Line
from fairlead.observe.story import Moment

PERIODS = 12
"""Most lines for the quiet time between births and deaths; more would not be read."""
COUNTED = {
    "dispatch": "came",
    "complete": "ended",
    "preempted": "were preempted",
    "refused": "were refused",
    "cancel": "were cancelled",
}


ROLES = {
    "mixed": "computes prompts and decodes from now on",
    "prefill": "computes prompts only from now on",
    "decode": "only decodes what others have prefilled from now on",
}


@dataclass(slots=True)
class InstanceStory:
    """Everything that the log says of one instance."""

    id: str
    title: str = ""
    marks: list[Moment] = field(default_factory=list)
    """When it came, when it went, and where its requests went then."""
    counts: list[tuple[float, str]] = field(default_factory=list)
    """What happened to requests inside, and when: a key of `COUNTED`."""
    loads: list[tuple[float, int, int, float]] = field(default_factory=list)
    """Time, running, waiting, slowdown: what it reported."""
    end_s: float = 0.0
    lost_s: float = 0.0
    """When it was lost, the last time."""

    @property
    def begin_s(self) -> float:
        return self.marks[0].t_s if self.marks else 0.0

    @property
    def moments(self) -> list[Moment]:
        """Births, deaths and a sentence for each period between, in order of time."""
        found = [*self.marks, *self._periods()]
        return sorted(found, key=lambda moment: moment.t_s)

    @property
    def verdict(self) -> str:
        totals = Counter(what for _, what in self.counts)
        return _totals(totals) or "no request ever came"

    def _periods(self) -> list[Moment]:
        span_s = self.end_s - self.begin_s
        period_s = span_s / PERIODS
        if not self.counts or period_s <= 0:
            return []
        moments = []
        for i in range(PERIODS):
            start_s = self.begin_s + i * period_s
            last = i == PERIODS - 1
            end_s = self.end_s if last else start_s + period_s

            def inside(t_s: float, a: float = start_s, b: float = end_s, last: bool = last) -> bool:
                return a <= t_s < b or (last and t_s == b)

            totals = Counter(what for t_s, what in self.counts if inside(t_s))
            loads = [load for load in self.loads if inside(load[0])]
            if totals or loads:
                words = [_totals(totals) or "nothing came or ended", *map(_load, loads[-1:])]
                moments.append(Moment(end_s, f"in the {period_s:.3g} s before: {'; '.join(words)}"))
        return moments


def instance_story(id: str, lines: Iterable[Line]) -> InstanceStory | None:
    """The story; None where the log does not know the instance."""
    story = InstanceStory(id)
    known = False
    inside: dict[str, None] = {}
    resumed: Counter[str] = Counter()
    for line in lines:
        story.end_s = line["t"]
        what = line["what"]
        if what == "dispatch" and line["why"] == "instance-lost" and line["request"] in inside:
            del inside[line["request"]]
            resumed[line["instance"]] += 1
        if line.get("instance") != id:
            continue
        known = True
        if what == "instance-down":
            _say_resumed(story, resumed)
        _note(story, line, inside)
    _say_resumed(story, resumed)
    return story if known else None


def _note(story: InstanceStory, line: Line, inside: dict[str, None]) -> None:
    what, t_s = line["what"], line["t"]
    if what in COUNTED:
        story.counts.append((t_s, what))
    if what == "instance-up":
        story.title = (
            f"{story.id}: pool {line['pool']}, {line['model']} on {line['hardware'] or 'hardware'}"
            f", {line['n_blocks']:,} KV blocks of {line['block_tokens']} tokens"
        )
        story.marks.append(Moment(t_s, "came up"))
    elif what == "instance-down":
        why = f": {line['why']}" if line.get("why") else ""
        story.marks.append(Moment(t_s, f"was lost{why}; it held {len(inside):,} requests"))
        story.lost_s = t_s
    elif what == "leaving":
        story.marks.append(Moment(t_s, f"was told to leave; it held {len(inside):,} requests"))
    elif what == "role":
        story.marks.append(Moment(t_s, ROLES[line["role"]]))
    elif what == "report":
        story.loads.append((t_s, line["running"], line["waiting"], line["slowdown"]))
    elif what == "dispatch":
        inside[line["request"]] = None
    elif what in ("complete", "refused", "cancel"):
        inside.pop(line["request"], None)


def _say_resumed(story: InstanceStory, resumed: Counter[str]) -> None:
    """Where its requests went on, at the time of its latest loss."""
    if not resumed:
        return
    places = ", ".join(f"{n:,} on {name}" for name, n in resumed.most_common())
    story.marks.append(Moment(story.lost_s, f"its requests went on: {places}"))
    resumed.clear()


def _totals(totals: Counter[str]) -> str:
    return ", ".join(f"{totals[what]:,} {word}" for what, word in COUNTED.items() if totals[what])


def _load(load: tuple[float, int, int, float]) -> str:
    _, running, waiting, slowdown = load
    slow = f", steps {slowdown:.2g} times as long as predicted" if slowdown > 1.2 else ""
    return f"at its last report {running:,} ran and {waiting:,} waited{slow}"
